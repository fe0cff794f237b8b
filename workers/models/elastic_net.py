"""The elastic net: scikit-learn's."""

from __future__ import annotations

from sklearn.linear_model import ElasticNet

from hpo_service.catalog.elastic_net import ElasticNetHyperparameters
from workers.models import linear
from workers.models.estimators import Rows


def learn(settings: ElasticNetHyperparameters, rows: Rows) -> linear.Linear:
    """Least squares with both penalties, for each target by itself."""
    made = ElasticNet(alpha=settings.alpha, l1_ratio=settings.l1_ratio, max_iter=settings.max_iter)
    return linear.fit_scaled(made, rows)


MODEL = linear.family(learn)
