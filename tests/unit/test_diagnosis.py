"""What is said of curves whose ailment is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hpo_service import diagnosis
from hpo_service.diagnosis import Context, Curves

CONTEXT = Context(n_train=80, n_valid=20, best=0.90)
OFFSETS = (-0.010, 0.000, 0.010, 0.005, -0.005)


def curves(train: list[float], valid: list[float], chosen: int | None = None) -> Curves:
    """Accuracies epoch by epoch; folds lie a little apart, and their gaps, too."""
    return Curves(
        train=[[score + at / 5 for score in train] for at in OFFSETS],
        valid=[[score + at * (1 + i / 10) for i, score in enumerate(valid)] for at in OFFSETS],
        direction="maximize",
        chosen=chosen,
    )


UNDERFITTING = curves([0.60, 0.70, 0.72], [0.60, 0.69, 0.71])
OVERFITTING = curves([0.80, 0.95, 1.00], [0.80, 0.90, 0.82])
FINE = curves([0.80, 0.88, 0.90], [0.80, 0.87, 0.89])


@pytest.mark.parametrize(
    ("trial", "kind"),
    [(UNDERFITTING, "underfitting"), (OVERFITTING, "overfitting"), (FINE, "fine")],
)
def test_each_ailment_is_named_with_what_to_try(trial: Curves, kind: diagnosis.Kind) -> None:
    found = diagnosis.of_trial(trial, CONTEXT)
    assert found.kind == kind
    assert found.reason.endswith(".")
    assert found.next == diagnosis.NEXT[kind]


def test_losses_are_read_the_other_way_round() -> None:
    train, valid = ([[1 - s for s in part] for part in p] for p in _parts(OVERFITTING))
    found = diagnosis.of_trial(Curves(train, valid, "minimize"), replace(CONTEXT, best=0.10))
    assert found == diagnosis.of_trial(OVERFITTING, CONTEXT)


def _parts(trial: Curves) -> tuple[diagnosis.Parts, diagnosis.Parts]:
    return trial.train, trial.valid


def test_early_stopping_at_the_minimum_cures_overfitting() -> None:
    assert diagnosis.of_trial(replace(OVERFITTING, chosen=1), CONTEXT).kind == "fine"


def test_without_a_best_score_nothing_is_said_of_bias() -> None:
    assert diagnosis.of_trial(UNDERFITTING, replace(CONTEXT, best=None)).kind == "fine"


def test_the_mean_training_curve_is_enough() -> None:
    for trial in (UNDERFITTING, OVERFITTING, FINE):
        mean = [math.fsum(scores) / 5 for scores in zip(*trial.train, strict=True)]
        found = diagnosis.of_trial(replace(trial, train=[mean]), CONTEXT)
        assert found.kind == diagnosis.of_trial(trial, CONTEXT).kind


def test_seeds_that_differ_more_than_settings_are_unstable() -> None:
    context = replace(CONTEXT, over_seeds=0.05, over_settings=0.02)
    assert diagnosis.of_trial(FINE, context).kind == "unstable"
    assert diagnosis.of_trial(FINE, replace(context, over_seeds=0.01)).kind == "fine"


@pytest.mark.parametrize(
    "trial",
    [
        replace(FINE, train=[]),
        replace(FINE, train=FINE.train[:1], valid=FINE.valid[:1]),
        replace(FINE, valid=[[0.8, 0.9, math.nan]] * 5),
        replace(FINE, chosen=7),
        curves([1.0], [0.8]),
    ],
)
def test_what_cannot_be_told_is_said(trial: Curves) -> None:
    found = diagnosis.of_trial(trial, CONTEXT)
    assert found.kind == "cannot_tell"
    assert found.next


def test_a_study_is_as_well_as_its_best_trial() -> None:
    trials = [UNDERFITTING, OVERFITTING, FINE, FINE]
    found = diagnosis.of_study(trials, 2, CONTEXT)
    assert found.kind == "fine"
    assert "2 of 4 trials" in found.reason
    assert diagnosis.of_study(trials, 0, CONTEXT).kind == "underfitting"


def test_the_spread_over_settings_is_taken_from_the_trials() -> None:
    context = replace(CONTEXT, over_seeds=0.02)
    assert diagnosis.of_study([FINE, FINE, FINE], 0, context).kind == "unstable"
    assert diagnosis.of_study([FINE, UNDERFITTING], 0, context).kind == "fine"
