"""Where each pruner ends a trial, worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from hpo_service import errors
from hpo_service.pruners import PRUNERS, Case, Facts, Standings
from hpo_service.pruners.halving import Hyperband
from hpo_service.seen import CODES

Losses = NDArray[np.float64]


class Table:
    """Losses (trials, steps, metrics, folds) of a study, the last trial being judged."""

    def __init__(self, losses: Any, reached: Sequence[int] | None = None) -> None:
        given = np.asarray(losses, dtype=np.float64)
        while given.ndim < 4:
            given = given[..., None]
        self.losses = given
        self.n, self.steps = given.shape[:2]
        self.reached = np.array([self.steps] * self.n if reached is None else reached)

    def case(self, step: int, complete: Sequence[int] = (), epochs: float = math.nan) -> Case:
        mean = self.losses.mean(3)
        last = self.n - 1
        states = np.full(self.n, CODES["running"], dtype=np.int8)
        states[list(complete)] = CODES["complete"]
        values = np.full(mean[:, 0].shape, np.nan)
        values[list(complete)] = mean[list(complete), -1]
        standings = Standings(
            states=states,
            losses=values,
            kinds=np.zeros(self.n, dtype=np.int64),
            epochs=np.full(self.n, epochs),
            at=lambda s: np.where((self.reached >= s)[:, None], mean[:, s - 1], np.nan),
            reported=lambda s: self.reached >= s,
            folds_at=lambda s, numbers: self.losses[list(numbers), s - 1],
        )
        steps = list(range(1, step + 1))
        return Case(last, steps, mean[last, :step], self.losses[last, step - 1], standings)


def prunes(name: str, case: Case, facts: Facts | None = None, **options: Any) -> bool:
    made = PRUNERS[name].make(options, facts or Facts())
    assert made is not None
    return made.prunes(case)


def refused(name: str, facts: Facts, **options: Any) -> str:
    with pytest.raises(errors.InvalidRequest) as error:
        PRUNERS[name].check(options, facts)
    return error.value.fields[0].field


class TestAmongOthers:
    @pytest.mark.parametrize(("loss", "ends"), [(0.5, False), (1.5, False), (2.5, True), (9, True)])
    def test_asha_lets_one_in_three_past_a_rung(self, loss: float, ends: bool) -> None:
        others = [[0.0, at] for at in range(1, 6)]
        case = Table([*others, [0.0, loss]]).case(2)
        assert prunes("asha", case) == ends
        assert not prunes("asha", Table([*others, [loss, loss]]).case(1))

    def test_a_trial_that_skips_a_rung_is_judged_at_the_first_step_beyond(self) -> None:
        table = Table([[0.0] * 4] * 3 + [[9.0] * 4])
        case = table.case(4)
        skipped = Case(case.number, [1, 4], case.curve[[0, 3]], case.folds, case.standings)
        assert prunes("asha", skipped, min_resource=3)

    @pytest.mark.parametrize(
        ("name", "loss", "ends"),
        [
            ("median", 1.9, False),
            ("median", 2.1, True),
            ("percentile", 0.9, False),
            ("percentile", 1.1, True),
        ],
    )
    def test_a_share_of_the_complete_trials_may_be_better(
        self, name: str, loss: float, ends: bool
    ) -> None:
        table = Table([[at] * 5 for at in (0.0, 1.0, 2.0, 3.0)] + [[-9] * 5, [loss] * 5])
        assert prunes(name, table.case(5, [0, 1, 2, 3]), n_startup_trials=4) == ends
        assert not prunes(name, table.case(4, [0, 1, 2, 3]), n_startup_trials=4)
        assert not prunes(name, table.case(5, [0, 1, 2, 3]), n_startup_trials=5)

    def test_its_best_so_far_counts_not_its_last(self) -> None:
        table = Table([[1.0] * 5] * 4 + [[0.5, 9, 9, 9, 9]])
        assert not prunes("median", table.case(5, range(4)), n_startup_trials=4)

    def test_hyperband_spreads_trials_over_brackets_that_cost_alike(self) -> None:
        made = PRUNERS["hyperband"].make({}, Facts(epochs=27))
        assert isinstance(made, Hyperband)
        assert [each.rungs[0] for each in made.brackets] == [2, 6, 18]
        members = made.members(300)
        sizes = np.bincount(members) / 300
        np.testing.assert_allclose(sizes, made.shares, atol=0.02)
        assert sizes[0] > sizes[1] > sizes[2]
        # Alone in its bracket at a rung nobody is worse than the best.
        rungs = [each.rungs[0] for each in made.brackets]
        table = Table([[float(at)] * 18 for at in range(40)])
        ended = [made.prunes(table.case(rungs[members[39]]))]
        assert ended == [True]

    def test_hyperband_has_to_know_how_long_trials_are(self) -> None:
        assert refused("hyperband", Facts()) == "pruner.max_resource"
        PRUNERS["hyperband"].check({"max_resource": 9}, Facts())

    def test_with_several_metrics_the_front_goes_on(self) -> None:
        front = [[[0.0, 3.0]] * 2, [[3.0, 0.0]] * 2]
        behind = [[[4.0, 4.0]] * 2, [[5.0, 5.0]] * 2, [[6.0, 6.0]] * 2]
        two = Facts((1.0, 1.0))
        assert prunes("asha", Table([*front, *behind, [[3.5, 3.5]] * 2]).case(2), two)
        assert not prunes("asha", Table([*front, *behind, [[-1.0, 9.0]] * 2]).case(2), two)


class TestByItsOwnCurve:
    def test_patience_counts_steps_without_a_better_value(self) -> None:
        curve = [3.0, 2.0, 2.0, 1.9999, 2.5]
        assert not prunes("patience", Table([curve]).case(4), patience=2)
        assert prunes("patience", Table([curve]).case(4), patience=2, min_delta=0.01)
        assert not prunes("patience", Table([curve]).case(2), patience=2)

    def test_patience_waits_for_any_metric(self) -> None:
        curves = [[[3.0, 3.0], [3.0, 2.0], [3.0, 1.0]]]
        assert not prunes("patience", Table(curves).case(3), Facts((1.0, 1.0)), patience=1)

    @pytest.mark.parametrize(("loss", "ends"), [(0.5, False), (1.5, True), (math.nan, True)])
    def test_threshold_bounds_values(self, loss: float, ends: bool) -> None:
        case = Table([[loss] * 3]).case(3)
        assert prunes("threshold", case, upper=1.0) == ends
        assert prunes("threshold", case, Facts((-1.0,)), lower=-1.0) == ends
        assert not prunes("threshold", case, upper=1.0, n_warmup_steps=4)

    def test_threshold_needs_a_bound_of_each_metric(self) -> None:
        assert refused("threshold", Facts()) == "pruner.upper"
        assert refused("threshold", Facts((1.0, 1.0)), upper=1.0) == "pruner.upper"
        assert refused("threshold", Facts(), lower=2.0, upper=1.0) == "pruner.lower"
        PRUNERS["threshold"].check({"upper": [1.0, 2.0]}, Facts((1.0, 1.0)))


def folds(means: Sequence[float], steps: int = 27, spread: float = 0.0) -> Losses:
    """Losses (trials, steps, 1, 5) with these means; the last trial's folds differ by `spread`."""
    found = np.tile(np.array(means)[:, None, None, None], (1, steps, 1, 5))
    found[-1] += spread * np.array([-1.0, 0.5, 0.0, -0.5, 1.0])
    return found


class TestFoldByFold:
    known = Facts(folds=5, ratio=0.25, epochs=27)

    @pytest.mark.parametrize("spread", [0.05, 0.1, 0.15, 0.2, 0.3])
    def test_racing_ends_a_trial_by_the_corrected_t(self, spread: float) -> None:
        """Nadeau and Bengio (2003), at 2.5 % shared by the rungs 3 and 9."""
        table = Table(folds([0.0, 0.1, 0.15, 0.3], spread=spread))
        differences = table.losses[3, 8, 0] - table.losses[0, 8, 0]
        error = differences.std(ddof=1) * math.sqrt(1 / 5 + 0.25)
        p = stats.t.sf(differences.mean() / error, 4)
        case = table.case(9, [0], epochs=27)
        assert prunes("racing", case, self.known) == bool(p <= 0.025 / 2)

    @pytest.mark.parametrize(("step", "ends"), [(2, False), (3, True), (4, False), (9, True)])
    def test_a_race_is_held_at_rungs_only(self, step: int, ends: bool) -> None:
        table = Table(folds([0.0, 0.1, 0.15, 0.3], spread=0.01))
        assert prunes("racing", table.case(step, [0], epochs=27), self.known) == ends

    def test_no_race_is_held_in_the_first_tenth(self) -> None:
        table = Table(folds([0.0, 0.1, 0.15, 0.3], spread=0.01))
        assert not prunes("racing", table.case(3, [0], epochs=50), self.known)
        assert prunes("racing", table.case(9, [0], epochs=50), self.known)

    def test_nobody_in_the_best_third_is_ended(self) -> None:
        table = Table(folds([0.0, 0.4, 0.5, 0.5, 0.5, 0.5, 0.3], spread=0.01))
        assert not prunes("racing", table.case(9, [0], epochs=27), self.known)

    def test_only_trials_of_the_same_length_are_compared(self) -> None:
        case = Table(folds([0.0, 0.1, 0.15, 0.3], spread=0.01)).case(9, [0], epochs=27)
        apart = np.array([0, 0, 0, 1], dtype=np.int64)
        standings = Standings(**{**vars(case.standings), "kinds": apart})
        alone = Case(case.number, case.steps, case.curve, case.folds, standings)
        assert not prunes("racing", alone, self.known)

    def test_with_several_metrics_it_has_to_be_worse_in_each(self) -> None:
        one = folds([0.0, 0.1, 0.15, 0.3], spread=0.01)
        both = np.concatenate([one, one], axis=2)
        two = Facts((1.0, 1.0), folds=5, ratio=0.25, epochs=27)
        assert prunes("racing", Table(both).case(9, [0], epochs=27), two)
        both[-1, :, 1] -= 1
        assert not prunes("racing", Table(both).case(9, [0], epochs=27), two)

    @pytest.mark.parametrize(("mean", "ends"), [(0.35, False), (0.45, True)])
    def test_folds_that_run_one_after_another_race_the_worst_of_the_best(
        self, mean: float, ends: bool
    ) -> None:
        done = np.array([[0.0, 0.1, 0.2, 0.3, 0.4]])
        best = np.tile(done[:, None, None, :], (1, 5, 1, 1))
        case = Table(np.concatenate([best, np.full_like(best, mean)])).case(2, [0], epochs=27)
        two_done = Case(case.number, [1, 2], case.curve, case.folds[:, :2], case.standings)
        assert prunes("racing", two_done, self.known) == ends

    def test_wilcoxon_ends_a_trial_whose_folds_all_rank_below(self) -> None:
        worse = folds([0.0, 0.3], spread=0.1)
        assert prunes("wilcoxon", Table(worse).case(9, [0]), self.known)
        mixed = folds([0.0, 0.05], spread=0.1)
        assert not prunes("wilcoxon", Table(mixed).case(9, [0]), self.known)
        assert not prunes("wilcoxon", Table(worse).case(4, [0]), self.known)

    def test_without_enough_folds_they_are_refused(self) -> None:
        assert refused("wilcoxon", Facts(folds=4)) == "pruner.p_threshold"
        PRUNERS["wilcoxon"].check({}, Facts(folds=5))
        assert refused("wilcoxon", Facts(folds=5), p_threshold=0.03) == "pruner.p_threshold"
        for name in ("racing", "wilcoxon"):
            assert refused(name, Facts()) == "pruner.name"
            assert refused(name, Facts(folds=1)) == "pruner.name"

    def test_of_so_many_iterations_racing_has_to_be_told_the_epochs(self) -> None:
        iterated = Facts(folds=5, iterated=True)
        assert refused("racing", iterated) == "pruner.epochs"
        PRUNERS["racing"].check({"epochs": 30}, iterated)
