"""What ails a trial or a study, as its curves tell, and the next thing to try.

High bias: the training error itself lies above what others reach in validation. High variance: the
validation error lies above the training error and has risen since its minimum.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hpo_service import protocol
from hpo_service.selection import corrected_error

Kind = Literal["underfitting", "overfitting", "unstable", "fine", "cannot_tell"]
Parts = Sequence[Sequence[float]]

# So many corrected standard errors are a clear difference.
CLEAR = 2.0

MORE_DATA = "more data (hpo study learning-curve {study} tells what more would bring)"
NEXT: dict[Kind, tuple[str, ...]] = {
    "underfitting": (
        "more layers or units",
        "less regularization: lower dropout and weight decay",
        "more epochs or a higher learning rate",
    ),
    "overfitting": (
        "early stopping",
        "dropout",
        "weight decay",
        "averaging several networks",
        MORE_DATA,
    ),
    "unstable": (
        "averaging several restarts",
        "a lower learning rate",
        "more repeats, so that settings can be told apart",
        MORE_DATA,
    ),
    "fine": ("a longer search around the best setting",),
    "cannot_tell": ("more folds or repeats", "a reported training score"),
}


@dataclass(frozen=True)
class Curves:
    """A trial's scores epoch by epoch, for each (repeat, fold) a list: `train` of training rows in
    evaluation mode, a single list where only the mean over folds is known; `valid` of validation
    rows. `chosen`: the place of the epoch that counts, the last where None.
    """

    train: Parts
    valid: Parts
    direction: protocol.Direction
    chosen: int | None = None


@dataclass(frozen=True)
class Context:
    """What the trial is compared with. `best`: the best validation score of the study and its
    baselines; `over_seeds`, `over_settings`: standard deviations of the validation score, of one
    setting under other seeds, and of the study's settings; `n_train`, `n_valid`: mean rows that a
    fold trains on and scores.
    """

    n_train: float
    n_valid: float
    best: float | None = None
    over_seeds: float | None = None
    over_settings: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """`kind`, why in plain language, and what to try next, the most promising first; `{study}` in
    it stands for the study's name.
    """

    kind: Kind
    reason: str
    next: tuple[str, ...]


@dataclass(frozen=True)
class _Errors:
    """Errors at the chosen epoch by fold, lower is better; `least`: at the epoch with the lowest
    mean validation error up to there; `epochs` so far.
    """

    train: list[float]
    valid: list[float]
    least: list[float]
    epochs: int


def of_trial(curves: Curves, context: Context) -> Diagnosis:
    """The diagnosis of one trial."""
    if _unstable(context):
        return _unstable_because(context)
    errors = _errors(curves)
    if errors is None:
        return _found("cannot_tell", "No training score was reported, or a score was not finite.")
    if len(errors.valid) < 2:
        return _found("cannot_tell", "A single fold has no spread to compare differences with.")
    ratio = context.n_valid / context.n_train
    return _bias(errors, curves, context, ratio) or _variance(errors, ratio)


def of_study(trials: Sequence[Curves], best: int, context: Context) -> Diagnosis:
    """The diagnosis of a study: that of its best trial, `trials[best]`, and how common it is.

    Where the context names no spread over settings, it is taken from the trials.
    """
    values = [value for each in trials if math.isfinite(value := _value(each))]
    if context.over_settings is None and len(values) > 1:
        context = replace(context, over_settings=statistics.stdev(values))
    found = of_trial(trials[best], context)
    if found.kind == "unstable" or len(trials) < 2:
        return found
    kinds = Counter(of_trial(each, context).kind for each in trials)
    alike = f" Found in {kinds[found.kind]} of {len(trials)} trials."
    return replace(found, reason=found.reason + alike)


def _unstable(context: Context) -> bool:
    seeds, settings = context.over_seeds, context.over_settings
    return seeds is not None and settings is not None and seeds > settings


def _unstable_because(context: Context) -> Diagnosis:
    return _found(
        "unstable",
        f"The same setting scores {context.over_seeds:.3g} apart under other seeds (standard"
        f" deviation), more than the settings do among themselves ({context.over_settings:.3g}).",
    )


def _bias(errors: _Errors, curves: Curves, context: Context, ratio: float) -> Diagnosis | None:
    if context.best is None:
        return None
    target = _sign(curves.direction) * context.best
    above = statistics.fmean(errors.train) - target
    spread = errors.train if len(set(errors.train)) > 1 else errors.valid
    if above <= CLEAR * corrected_error(spread, ratio) or above <= 0:
        return None
    return _found(
        "underfitting",
        f"On its own training rows it is {above:.3g} worse than the best validation score"
        f" of the study or its baselines ({context.best:.4g}): high bias.",
    )


def _variance(errors: _Errors, ratio: float) -> Diagnosis:
    gaps = [valid - train for valid, train in zip(errors.valid, errors.train, strict=True)]
    gap = statistics.fmean(gaps)
    if gap <= CLEAR * corrected_error(gaps, ratio) or gap <= 0:
        return _found(
            "fine", "Training and validation scores are no further apart than folds are by chance."
        )
    rises = [now - least for now, least in zip(errors.valid, errors.least, strict=True)]
    rise = statistics.fmean(rises)
    if rise > corrected_error(rises, ratio):
        return _found(
            "overfitting",
            f"Validation rows score {gap:.3g} worse than training rows, and {rise:.3g} worse than"
            " at their best epoch: high variance.",
        )
    if errors.epochs < 2:
        return _found(
            "cannot_tell",
            f"Validation rows score {gap:.3g} worse than training rows, but without epochs it"
            " cannot be seen whether a simpler fit would do better.",
        )
    return _found(
        "fine",
        f"Validation rows score {gap:.3g} worse than training rows, but they had not got worse by"
        " the epoch that counts.",
    )


def _errors(curves: Curves) -> _Errors | None:
    """None where a curve is missing or is not finite up to the chosen epoch."""
    if not curves.train or not curves.valid:
        return None
    epochs = min(len(part) for part in (*curves.train, *curves.valid))
    last = epochs - 1 if curves.chosen is None else curves.chosen
    if not 0 <= last < epochs:
        return None
    sign = _sign(curves.direction)
    train = [sign * part[last] for part in curves.train]
    valid = [[sign * score for score in part[: last + 1]] for part in curves.valid]
    if not all(map(math.isfinite, [*train, *(score for part in valid for score in part)])):
        return None
    if len(train) != len(valid):
        train = [statistics.fmean(train)] * len(valid)
    means = [statistics.fmean(scores) for scores in zip(*valid, strict=True)]
    least = means.index(min(means))
    return _Errors(train, [part[-1] for part in valid], [part[least] for part in valid], last + 1)


def _value(curves: Curves) -> float:
    errors = _errors(replace(curves, train=curves.valid))
    return math.nan if errors is None else statistics.fmean(errors.valid)


def _sign(direction: protocol.Direction) -> float:
    return -1.0 if direction == "maximize" else 1.0


def _found(kind: Kind, reason: str) -> Diagnosis:
    return Diagnosis(kind, reason, NEXT[kind])
