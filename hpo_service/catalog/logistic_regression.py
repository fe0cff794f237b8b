"""Logistic regression: the linear classifier that a network has to beat."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.family import Family, Hyperparameters
from hpo_service.protocol import FloatRange


class LogisticRegressionHyperparameters(Hyperparameters):
    """Hyperparameters of scikit-learn's `LogisticRegression` with the L2 penalty."""

    C: Annotated[float, Field(gt=0, le=1e10, description="Inverse strength of the L2 penalty.")] = (
        1.0
    )
    max_iter: Annotated[
        int, Field(ge=1, le=1_000_000, description="Iterations of the solver, at most.")
    ] = 1000


LOGISTIC_REGRESSION = Family(
    name="logistic_regression",
    title="Logistic regression",
    description="Linear classifier of scikit-learn on standardised inputs, L2 penalty.",
    tasks=("classification",),
    hyperparameters=LogisticRegressionHyperparameters,
    network=False,
    baseline=True,
    default_space={"C": FloatRange(type="float", low=1e-4, high=1e4, log=True)},
)
