"""Ridge regression: scikit-learn's."""

from __future__ import annotations

from sklearn.linear_model import Ridge

from hpo_service.catalog.ridge import RidgeHyperparameters
from workers.models import linear
from workers.models.estimators import Rows


def learn(settings: RidgeHyperparameters, rows: Rows) -> linear.Linear:
    """Least squares with the L2 penalty."""
    return linear.fit(Ridge(alpha=settings.alpha), rows)


MODEL = linear.family(learn)
