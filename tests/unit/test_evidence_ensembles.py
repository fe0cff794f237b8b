"""Single or ensemble, decided by folds that had no say in the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score

from workers.evidence.ensembles import Blend, blend, mixed

ROWS, FOLDS = 100, np.arange(100) % 5


def members(rng: np.random.Generator, noise: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Members that are off by independent noise."""
    target = torch.from_numpy(rng.normal(size=(ROWS, 1)))
    errors = np.array(noise)[:, None, None] * rng.normal(size=(len(noise), ROWS, 1))
    return target + torch.from_numpy(errors), target


def compared(found: list[Blend]) -> dict[str, Blend]:
    return {each.kind: each for each in found}


def test_independent_errors_average_out() -> None:
    used, found = blend("rmse", "minimize", *members(np.random.default_rng(0), [1.0] * 8), FOLDS)
    assert used.kind in ("average", "greedy")
    assert used.score < 0.6 * compared(found)["single"].score


def test_one_good_member_among_bad_ones_stays_single() -> None:
    prediction, target = members(np.random.default_rng(1), [0.1, 3, 3, 3])
    used, found = blend("r2", "maximize", prediction, target, FOLDS)
    assert used.kind == "single"
    assert used.weights.tolist() == [1, 0, 0, 0]
    assert [each.kind for each in found] == ["single", "average", "greedy"]


def test_greedy_gives_more_weight_to_better_members() -> None:
    prediction, target = members(np.random.default_rng(2), [0.5, 0.5, 0.5, 4, 4, 4])
    greedy = compared(blend("rmse", "minimize", prediction, target, FOLDS)[1])["greedy"]
    assert greedy.weights.sum() == pytest.approx(1)
    assert greedy.weights[:3].sum() > 0.8


def test_scores_are_means_over_folds_of_the_mixture() -> None:
    prediction, target = members(np.random.default_rng(3), [1, 1])
    average = compared(blend("r2", "maximize", prediction, target, FOLDS)[1])["average"]
    said = prediction.mean(0)
    wanted = [r2_score(target[f == FOLDS], said[f == FOLDS]) for f in range(5)]
    assert average.folds == pytest.approx(wanted)
    assert average.score == pytest.approx(np.mean(wanted))
    assert torch.equal(mixed(prediction, np.array([0.5, 0.5])), said)


def test_the_single_best_of_each_fold_is_chosen_on_the_others() -> None:
    prediction, target = members(np.random.default_rng(4), [1.0] * 6)
    single = compared(blend("mae", "minimize", prediction, target, FOLDS)[1])["single"]
    wanted = []
    for f in range(5):
        inside = [mean_absolute_error(target[f != FOLDS], each[f != FOLDS]) for each in prediction]
        best = prediction[int(np.argmin(inside))]
        wanted.append(mean_absolute_error(target[f == FOLDS], best[f == FOLDS]))
    assert single.folds == pytest.approx(wanted)


def test_weights_fitted_to_noise_do_not_score_better_than_they_are() -> None:
    # No member knows anything: chosen on all rows, greedy weights would seem to.
    rng = np.random.default_rng(5)
    scores = []
    for _ in range(8):
        target = torch.from_numpy(rng.integers(0, 2, ROWS))
        prediction = torch.from_numpy(rng.dirichlet(np.ones(2), (10, ROWS)))
        found = compared(blend("accuracy", "maximize", prediction, target, FOLDS)[1])
        scores.append(found["greedy"].score)
    assert np.mean(scores) == pytest.approx(0.5, abs=0.05)


def test_folds_too_small_for_the_metric_are_scored_together() -> None:
    prediction, target = members(np.random.default_rng(8), [0.5] * 4)
    rows = slice(12)
    every = blend("r2", "maximize", prediction[:, rows], target[rows], np.arange(12), pooled=True)[
        1
    ]
    found = compared(every)["average"]
    assert found.score == pytest.approx(r2_score(target[rows], prediction[:, rows].mean(0)))


def test_the_same_seed_chooses_the_same_weights() -> None:
    rows = members(np.random.default_rng(6), [1.0] * 6)
    first, again = (blend("rmse", "minimize", *rows, FOLDS)[1][2] for _ in range(2))
    assert np.array_equal(first.weights, again.weights)


def test_rows_without_weight_do_not_count() -> None:
    prediction, target = members(np.random.default_rng(7), [1.0, 1.0, 1.0])
    half = np.arange(ROWS) < 50
    weighed = blend("mae", "minimize", prediction, target, FOLDS, weight=half)[0]
    kept = blend("mae", "minimize", prediction[:, :50], target[:50], FOLDS[:50])[0]
    assert weighed.score == pytest.approx(kept.score)
    assert np.array_equal(weighed.weights, kept.weights)
