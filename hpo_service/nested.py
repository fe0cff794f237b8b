"""Nested cross-validation: an ordinary study for each outer fold, and what they say together.

Each study searches on the other folds, and its winner is scored on its own, so every row of the
data is scored once by what was searched, chosen and fitted without it (Varma and Simon 2006). The
mean is what the procedure, search and choice and all, is worth on the rows of all folds but one.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from hpo_service import errors, protocol
from hpo_service.client import Client
from hpo_service.selection import corrected_error

FOLDS = 5
LEVEL = 0.95
WINNER = "winner"
WILSON = "Wilson"  # what the service calls the interval of an accuracy of independent rows


@dataclass(frozen=True)
class Nested:
    """The held-out scores of the winners (`name` is `winner`) or of a baseline by one metric: one
    for each outer fold, their mean, the ends of its 95 % interval, and all rows scored.
    """

    name: str
    metric: str
    folds: tuple[float, ...]
    value: float
    low: float
    high: float
    rows: int


def study_name(name: str, fold: int) -> str:
    """The study of one outer fold."""
    return f"{name}-outer-{fold}"


def create(client: Client, spec: protocol.StudySpec, folds: int = FOLDS) -> list[protocol.Study]:
    """Create a study for each outer fold, or none; their names are those of `study_name`.

    Raises `InvalidRequest` for a study that trains no family or holds out a share, and what
    `Client.create_study` raises.
    """
    objective = spec.objective
    if not isinstance(objective, protocol.TrainObjective):
        raise errors.invalid("objective.kind", "only a study that trains a family can be nested")
    created = []
    with ExitStack() as undo:
        for fold in range(folds):
            outer = protocol.Outer(folds=folds, fold=fold)
            of_fold = {
                "name": study_name(spec.name, fold),
                "objective": objective.model_copy(update={"outer": outer}),
            }
            created.append(client.create_study(spec.model_copy(update=of_fold)))
            undo.callback(client.delete_study, created[-1].id)
        undo.pop_all()
    return created


def studies(client: Client, name: str) -> list[protocol.Study]:
    """The studies of all outer folds, in their order; `NotFound` where one is not there.

    `WrongState` where one has such a name but is no such fold.
    """
    found = [client.study(study_name(name, 0))]
    first = _objective(found[0]).outer
    folds = first.folds if first is not None else 1
    found += [client.study(study_name(name, fold)) for fold in range(1, folds)]
    for fold, study in enumerate(found):
        outer = _objective(study).outer
        if outer is None or (outer.folds, outer.fold) != (folds, fold):
            raise errors.WrongState(
                f"{study.name} does not hold out fold {fold} of {folds}: it is another study."
            )
    return found


def _objective(study: protocol.Study) -> protocol.TrainObjective:
    objective = study.spec.objective if study.spec else None
    if not isinstance(objective, protocol.TrainObjective):
        raise errors.WrongState(f"{study.name} trains no family: it is another study.")
    return objective


def estimates(client: Client, name: str) -> list[Nested]:
    """What the winners, and the baselines that all folds scored, are worth by each metric.

    `WrongState` where a fold has no final score, yet or for good.
    """
    found = studies(client, name)
    finals = [client.final(study.id) for study in found]
    for study, final in zip(found, finals, strict=True):
        if final.state != "complete":
            reason = final.error.message if final.error else f"it is {study.state}"
            raise errors.WrongState(f"{study.name} has no held-out score: {reason}.")
    ratio = _ratio(found[0], len(found))
    together: dict[tuple[str, str], list[protocol.Estimate]] = {}
    for final in finals:
        for estimate in _held_out(final):
            together.setdefault((estimate.name, estimate.metric), []).append(estimate)
    return [_mean(each, ratio) for each in together.values() if len(each) == len(found)]


def _held_out(final: protocol.Final) -> list[protocol.Estimate]:
    """Of the model that is served, under the winner's name, and of the baselines."""
    ours = final.winner.held_out if final.winner else []
    if final.served is not None and final.served.held_out:
        ours = [each.model_copy(update={"name": WINNER}) for each in final.served.held_out]
    return [*ours, *(each for baseline in final.baselines for each in baseline.held_out)]


def _ratio(study: protocol.Study, folds: int) -> float:
    """Rows scored by rows searched on, mean over the folds; in the order of time these grow."""
    if _objective(study).validation.method == "time_series":
        return statistics.fmean(1 / (before + 1) for before in range(folds))
    return 1 / (folds - 1)


def _mean(of_folds: Sequence[protocol.Estimate], ratio: float) -> Nested:
    values, rows = [each.value for each in of_folds], sum(each.rows for each in of_folds)
    if all(each.method == WILSON for each in of_folds):
        low, high = _wilson(sum(round(each.value * each.rows) for each in of_folds), rows)
    else:
        low, high = _corrected(values, ratio)
    first = of_folds[0]
    return Nested(
        name=first.name,
        metric=first.metric,
        folds=tuple(values),
        value=statistics.fmean(values),
        low=low,
        high=high,
        rows=rows,
    )


def _wilson(right: int, rows: int) -> tuple[float, float]:
    """Of a share of all rows (Wilson 1927), as if each had been scored by itself.

    Of 1,000 simulated logistic regressions each on 100 and 400 rows, 5 folds, accuracies of .76 to
    .93, it covered 93 to 95 %, half as wide as the corrected t interval.
    """
    from scipy.stats import binomtest

    found = binomtest(right, rows).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def _corrected(values: Sequence[float], ratio: float) -> tuple[float, float]:
    """Of the mean over folds that share training rows: corrected t (Nadeau and Bengio 2003).

    Where the one above was measured, it covered 94 to 98 %.
    """
    from scipy.stats import t

    reach = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * corrected_error(values, ratio)
    middle = statistics.fmean(values)
    return middle - reach, middle + reach
