"""Naive Bayes: each class a normal distribution of independent columns."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpo_service.catalog.family import Family, Hyperparameters
from hpo_service.protocol import FloatRange


class NaiveBayesHyperparameters(Hyperparameters):
    """Hyperparameters of scikit-learn's `GaussianNB`."""

    var_smoothing: Annotated[
        float,
        Field(gt=0, le=1e6, description="Added to each variance, in units of the largest one."),
    ] = 1e-9


NAIVE_BAYES = Family(
    name="naive_bayes",
    title="Naive Bayes",
    description="Gaussian naive Bayes of scikit-learn.",
    tasks=("classification",),
    hyperparameters=NaiveBayesHyperparameters,
    network=False,
    baseline=True,
    default_space={"var_smoothing": FloatRange(type="float", low=1e-12, high=1.0, log=True)},
)
