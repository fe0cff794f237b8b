"""The lasso: scikit-learn's."""

from __future__ import annotations

from sklearn.linear_model import Lasso

from hpo_service.catalog.lasso import LassoHyperparameters
from workers.models import linear
from workers.models.estimators import Rows


def learn(settings: LassoHyperparameters, rows: Rows) -> linear.Linear:
    """Least squares with the L1 penalty, for each target by itself."""
    return linear.fit_scaled(Lasso(alpha=settings.alpha, max_iter=settings.max_iter), rows)


MODEL = linear.family(learn)
