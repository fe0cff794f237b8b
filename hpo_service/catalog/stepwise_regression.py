"""Stepwise regression: least squares on the columns that are worth their place."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpo_service.catalog.family import Family, Hyperparameters
from hpo_service.protocol import Choice


class StepwiseRegressionHyperparameters(Hyperparameters):
    """How columns are chosen, for each target by itself."""

    direction: Annotated[
        Literal["forward", "backward", "both"],
        Field(
            description="forward: begin with no column and add; backward: begin with all, or with "
            "`max_features` that correlate most, and drop; both: begin with none, add and drop."
        ),
    ] = "forward"
    criterion: Annotated[
        Literal["aic", "bic"],
        Field(description="What each step lowers: Akaike's criterion or the Bayesian one."),
    ] = "bic"
    max_features: Annotated[
        int | None,
        Field(ge=1, le=100_000, description="Columns chosen; null: up to half as many as rows."),
    ] = None


STEPWISE_REGRESSION = Family(
    name="stepwise_regression",
    title="Stepwise regression",
    description="Least squares on columns chosen one by one (Efroymson 1960).",
    tasks=("regression",),
    hyperparameters=StepwiseRegressionHyperparameters,
    network=False,
    default_space={
        "direction": Choice(type="categorical", choices=["forward", "backward", "both"]),
        "criterion": Choice(type="categorical", choices=["aic", "bic"]),
    },
)
