"""Ridge regression: the linear model that a network has to beat."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.family import Family, Hyperparameters
from hpo_service.protocol import FloatRange


class RidgeHyperparameters(Hyperparameters):
    """Hyperparameters of scikit-learn's `Ridge`."""

    alpha: Annotated[float, Field(ge=0, le=1e10, description="Strength of the L2 penalty.")] = 1.0


RIDGE = Family(
    name="ridge",
    title="Ridge regression",
    description="Linear regression of scikit-learn on standardised inputs, L2 penalty.",
    tasks=("regression",),
    hyperparameters=RidgeHyperparameters,
    network=False,
    baseline=True,
    default_space={"alpha": FloatRange(type="float", low=1e-4, high=1e4, log=True)},
)
