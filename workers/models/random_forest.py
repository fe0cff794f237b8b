"""A random forest: scikit-learn's."""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from hpo_service.catalog.random_forest import RandomForestHyperparameters
from workers.models import forests
from workers.models.estimators import Rows


def make(settings: RandomForestHyperparameters, rows: Rows) -> Any:
    """The seed decides which rows and columns each tree sees."""
    kind = RandomForestClassifier if rows.classified else RandomForestRegressor
    given = settings.of_model()
    if settings.max_features == "auto":
        given["max_features"] = "sqrt" if rows.classified else 1.0
    return kind(**given, random_state=rows.seed, n_jobs=1)


MODEL = forests.family(make)
