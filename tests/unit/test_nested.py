"""Nested cross-validation: what the studies of its outer folds say together."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats
from torch import eye, float64, zeros

from hpo_service import errors, nested, protocol
from workers.evidence import intervals


def estimate(value: float, metric: str, method: str) -> protocol.Estimate:
    return protocol.Estimate(
        name="winner", metric=metric, value=value, low=None, high=None, method=method, rows=20
    )


class Studies:
    """Answers like a client, for finished studies of these scores."""

    def __init__(
        self, scores: list[float], metric: str = "accuracy", method: str = "Wilson", **more: Any
    ) -> None:
        self.finals = [self._final(estimate(score, metric, method)) for score in scores]
        self.objective = {"kind": "train", "model": "mlp", "dataset": "iris"} | more

    def study(self, name: str | int) -> protocol.Study:
        fold = int(str(name).rpartition("-")[2])
        outer = {"folds": len(self.finals), "fold": fold}
        spec = {
            "name": str(name),
            "objective": {"outer": outer} | self.objective,
            "budget": {"trials": 3},
        }
        return protocol.Study.model_construct(
            id=fold,
            name=str(name),
            state="finished",
            spec=protocol.StudySpec.model_validate(spec),
        )

    def final(self, study: int) -> protocol.Final:
        return self.finals[study]

    @staticmethod
    def _final(found: protocol.Estimate) -> protocol.Final:
        winner = protocol.Scored.model_construct(held_out=[found])
        return protocol.Final.model_construct(
            state="complete", winner=winner, baselines=[], error=None
        )


def only(studies: Studies) -> nested.Nested:
    (found,) = nested.estimates(studies, "s")  # type: ignore[arg-type]
    return found


def test_a_fold_counts_what_its_study_serves() -> None:
    studies = Studies([0.9, 0.8, 0.7])
    of_ensemble = estimate(0.95, "accuracy", "Wilson").model_copy(update={"name": "served"})
    served = protocol.Served(kind="ensemble", reason="it is better", held_out=[of_ensemble])
    studies.finals[1] = studies.finals[1].model_copy(update={"served": served})
    found = only(studies)
    assert (found.name, found.folds) == ("winner", (0.9, 0.95, 0.7))


def test_of_an_accuracy_all_rows_are_pooled() -> None:
    found = only(Studies([0.9, 0.8, 1.0, 0.85, 0.95]))
    assert (found.folds, found.rows) == ((0.9, 0.8, 1.0, 0.85, 0.95), 100)
    assert found.value == pytest.approx(0.9)
    # Wilson's ends for 90 of 100, as tables have them.
    assert (found.low, found.high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    rows = intervals.scored(eye(2, dtype=float64)[[0, 1]], zeros(2).long())
    assert intervals.interval("accuracy", rows).method == nested.WILSON


def test_of_another_metric_the_folds_are_what_varies() -> None:
    found = only(Studies([1.0, 2.0, 3.0], "rmse", "BCa"))
    # A standard deviation of 1, a third of the rows of each fold scored, two degrees of freedom.
    reach = stats.t.ppf(0.975, 2) * (1 / 3 + 1 / 2) ** 0.5
    assert (found.low, found.high) == pytest.approx((2 - reach, 2 + reach))


def test_in_the_order_of_time_the_first_folds_learn_from_less() -> None:
    ordered = Studies([1.0, 2.0, 3.0], "rmse", "BCa", validation={"method": "time_series"})
    reach = stats.t.ppf(0.975, 2) * (1 / 3 + (1 + 1 / 2 + 1 / 3) / 3) ** 0.5
    assert only(ordered).high == pytest.approx(2 + reach)


def test_a_fold_without_a_score_is_waited_for() -> None:
    studies = Studies([0.9, 0.8, 1.0])
    studies.finals[1] = studies.finals[1].model_copy(update={"state": "running"})
    with pytest.raises(errors.WrongState, match="s-outer-1 has no held-out score"):
        only(studies)


def test_a_study_of_such_a_name_that_is_no_fold_is_told() -> None:
    with pytest.raises(errors.WrongState, match="does not hold out fold 0"):
        only(Studies([0.9, 0.8, 1.0], outer=None))
    with pytest.raises(errors.WrongState, match="does not hold out fold 1 of 3"):
        only(Studies([0.9, 0.8, 1.0], outer={"folds": 3, "fold": 0}))
