"""A decision tree: scikit-learn's."""

from __future__ import annotations

from typing import Any

from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from hpo_service.catalog.decision_tree import DecisionTreeHyperparameters
from workers.models import forests
from workers.models.estimators import Rows


def make(settings: DecisionTreeHyperparameters, rows: Rows) -> Any:
    """The seed decides between equally good splits, and which columns are looked at."""
    kind = DecisionTreeClassifier if rows.classified else DecisionTreeRegressor
    return kind(**settings.of_model(), random_state=rows.seed)


MODEL = forests.family(make)
