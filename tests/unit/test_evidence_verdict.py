"""The verdict's three answers: its tests against tables and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from workers.evidence import verdict

FOLDS = {"n_train": 80.0, "n_valid": 20.0}


def rows(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows the winner and the baseline got right."""
    winner = np.repeat([True, True, False, False], [both, gained, lost, neither])
    baseline = np.repeat([True, False, True, False], [both, gained, lost, neither])
    return winner, baseline


@pytest.mark.parametrize(
    ("gained", "lost", "answer"),
    [(14, 3, "better"), (0, 20, "not_better"), (3, 1, "cannot_tell"), (5, 0, "cannot_tell")],
)
def test_rows_right_in_one_alone_decide(gained: int, lost: int, answer: str) -> None:
    found = verdict.of_rows(*rows(80, gained, lost, 3))
    wanted = stats.binomtest(gained, gained + lost, alternative="greater").pvalue
    assert found.answer == answer
    assert found.p == pytest.approx(wanted)
    assert found.difference == pytest.approx((gained - lost) / (83 + gained + lost))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.difference < found.high


def test_two_that_agree_on_every_row_of_many_are_not_better() -> None:
    assert verdict.of_rows(*rows(5000, 0, 0, 100)).answer == "not_better"
    assert verdict.of_rows(*rows(20, 0, 0, 1)).answer == "cannot_tell"


def test_a_gain_that_the_held_out_rows_deny_is_no_gain() -> None:
    assert verdict.of_rows(*rows(80, 14, 3, 3), held_out=0.0).answer == "better"
    assert verdict.of_rows(*rows(80, 14, 3, 3), held_out=-0.01).answer == "cannot_tell"


def test_the_detectable_difference_of_rows_is_found_in_four_of_five() -> None:
    n, discordant = 400, 0.1
    detectable = verdict.detectable_rows(n, discordant)
    assert detectable is not None
    rng = np.random.default_rng(0)
    gain, loss = (discordant + detectable) / 2, (discordant - detectable) / 2
    drawn = rng.multinomial(n, [1 - discordant, gain, loss], size=4000)
    p = stats.binom.sf(drawn[:, 1] - 1, drawn[:, 1] + drawn[:, 2], 0.5)
    assert np.mean(p <= 0.025) == pytest.approx(0.8, abs=0.02)


def test_so_few_rows_that_nothing_could_be_seen() -> None:
    found = verdict.of_rows(*rows(0, 5, 0, 0))
    assert (found.answer, found.detectable) == ("cannot_tell", None)


def test_folds_are_tested_with_the_corrected_variance() -> None:
    differences = np.array([0.02, 0.05, 0.03, 0.04, 0.06])
    found = verdict.of_folds(0.8 + differences, np.full(5, 0.8), "maximize", **FOLDS)
    plain = stats.ttest_1samp(differences, 0, alternative="greater")
    t = plain.statistic / math.sqrt(1 + 5 * 20 / 80)
    assert found.p == pytest.approx(stats.t.sf(t, 4))
    assert found.difference == pytest.approx(0.04)


def test_less_loss_is_better() -> None:
    ours = np.array([0.50, 0.52, 0.49, 0.51, 0.50])
    theirs = ours + np.array([0.10, 0.11, 0.12, 0.10, 0.11])
    found = verdict.of_folds(ours, theirs, "minimize", **FOLDS)
    assert found.answer == "better"
    assert found.difference == pytest.approx(0.108)
    assert found.smallest == pytest.approx(0.02 * theirs.mean())
    assert verdict.of_folds(theirs, ours, "minimize", **FOLDS).answer == "not_better"


def test_equal_scores_and_single_folds_are_no_gain() -> None:
    same = np.full(5, 0.8)
    assert verdict.of_folds(same, same, "maximize", **FOLDS).answer == "not_better"
    single = verdict.of_folds(np.ones(1), np.zeros(1), "maximize", **FOLDS)
    assert (single.answer, single.p) == ("cannot_tell", None)


def test_the_detectable_difference_of_folds_is_found_in_four_of_five() -> None:
    rng = np.random.default_rng(1)
    shift = verdict.detectable_errors(9) / math.sqrt(10)
    p = stats.ttest_1samp(rng.normal(shift, 1, (4000, 10)), 0, axis=1, alternative="greater").pvalue
    assert np.mean(p <= 0.025) == pytest.approx(0.8, abs=0.02)


def test_no_gain_is_claimed_in_more_than_one_of_forty() -> None:
    rng = np.random.default_rng(2)
    ours, theirs = rng.random((2, 400, 120)) < 0.8
    claims = [verdict.of_rows(*pair).answer == "better" for pair in zip(ours, theirs, strict=True)]
    assert 0 < np.mean(claims) < 0.025 + 3 * math.sqrt(0.025 * 0.975 / 400)
