"""What the predictions of unseen rows say once a study has ended: how much of the best value was
luck, and whether the winner is better than the best baseline.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hpo_service import protocol
from hpo_service.catalog import METRICS
from workers import measured, metrics
from workers.data.dataset import Dataset
from workers.data.folds import Rows, per_repeat, splits
from workers.evidence import ensembles, verdict
from workers.evidence.bootstrap_cv import bootstrap_cv
from workers.evidence.intervals import LEVEL
from workers.training import out_of_fold, pooling
from workers.work import Work

METHOD = "bootstrap cross-validation"
# A choice needs something to choose from.
FEWEST = 2
# Fewer leave nothing outside of most draws.
FEWEST_ROWS = 10


class NoEnsemble(ValueError):
    """Why there is none, as the end of a sentence."""


@dataclass(frozen=True)
class Said:
    """A completed row, and its predictions (repeats, rows, outputs), NaN where none is."""

    of: protocol.OutOfFold
    prediction: NDArray[np.float64]


def read(lease: protocol.TrialLease, work: Work) -> list[Said]:
    """All predictions that the lease names; raises `OSError` or `SafetensorError`."""
    return [
        Said(each, out_of_fold.unpack(work.predictions[each.sha256]).astype(np.float64))
        for each in lease.predictions
        if each.sha256 in work.predictions
    ]


def of_choice(said: Sequence[Said], data: Dataset, metric: str) -> protocol.Estimate | None:
    """What the chosen setting of the search scores, its choice's luck taken out.

    None where predictions alone do not tell the metric, and for fewer than two settings.
    """
    searched = [each.prediction for each in said if each.of.kind == "search"]
    if metric not in metrics.METRICS or len(searched) < FEWEST:
        return None
    stacked = np.stack(searched)
    rows = ~np.isnan(stacked).any(axis=(0, 1, 3))
    if rows.sum() < FEWEST_ROWS:
        return None
    found = bootstrap_cv(
        metric,
        METRICS[metric].direction,
        torch.from_numpy(stacked[:, :, rows]),
        torch.from_numpy(data.target[rows]),
        group=None if data.group is None else data.group[rows],
        ordered=data.schema.ordered,
        weight=None if data.weight is None else data.weight[rows],
    )
    if not math.isfinite(found.value):
        return None
    return protocol.Estimate(
        name="winner",
        kind="bootstrap_cv",
        metric=metric,
        value=found.value,
        low=found.low,
        high=found.high,
        level=LEVEL,
        method=METHOD,
        rows=int(rows.sum()),
    )


def of_ensemble(
    said: Sequence[Said], data: Dataset, lease: protocol.TrialLease, metric: str
) -> protocol.Ensemble:
    """Whether the best trials together would score better than one, by the first repeat; where the
    study serves an ensemble, how they score together in any case.

    Raises `NoEnsemble` where the predictions do not tell.
    """
    objective, direction = measured.objective(lease), METRICS[metric].direction
    members = _members(said, lease, metric)
    stacked = np.stack([each.prediction[0] for each in members])
    if np.isnan(stacked).any():
        raise NoEnsemble("the folds of the search do not score every row")
    parts = list(splits(data, objective.validation, lease.study_seed))
    parts = parts[: per_repeat(data, objective.validation)]
    fold = np.zeros(data.rows, dtype=np.int64)
    for at, (_, rows) in enumerate(parts):
        fold[rows] = at
    used, found = ensembles.blend(
        metric,
        direction,
        torch.from_numpy(stacked),
        torch.from_numpy(data.target),
        fold,
        weight=data.weight,
        pooled=_pooled(metric, data, [rows for _, rows in parts]),
    )
    if objective.serve == "ensemble":
        used = ensembles.together(found, direction)
    if not math.isfinite(used.score) or not math.isfinite(found[0].score):
        raise NoEnsemble(f"their {metric} is not a finite number")
    ratio = sum(len(valid) for _, valid in parts) / sum(len(train) for train, _ in parts)
    return _ensemble(metric, used, found[0], members, ratio)


def _members(said: Sequence[Said], lease: protocol.TrialLease, metric: str) -> list[Said]:
    """Of the settings that the lease offers, those with predictions."""
    offered = {each.number for each in lease.members}
    members = [each for each in said if each.of.kind == "search" and each.of.number in offered]
    if metric not in metrics.METRICS:
        raise NoEnsemble(f"predictions do not tell {metric}")
    if len(members) < FEWEST:
        raise NoEnsemble("fewer than two completed trials left predictions of unseen rows")
    return members


def _ensemble(
    metric: str,
    used: ensembles.Blend,
    alone: ensembles.Blend,
    members: Sequence[Said],
    ratio: float,
) -> protocol.Ensemble:
    error = verdict.corrected_error(used.folds - alone.folds, ratio)
    weights = zip(members, used.weights, strict=True)
    return protocol.Ensemble.model_validate(
        {
            "kind": used.kind,
            "metric": metric,
            "weights": {str(each.of.number): float(share) for each, share in weights if share > 0},
            "score": used.score,
            "alone": alone.score,
            "standard_error": error if math.isfinite(error) else None,
        }
    )


def _pooled(metric: str, data: Dataset, folds: Sequence[Rows]) -> bool:
    """Whether a trial's value is taken over the rows of all folds together."""
    targets = [data.target[rows] for rows in folds]
    return metric in pooling.pooled([metric], targets, len(folds), data.weight is not None)


def of_winner(
    said: Sequence[Said],
    data: Dataset,
    lease: protocol.TrialLease,
    metric: str,
    held_out: Sequence[protocol.Estimate],
) -> protocol.Verdict | None:
    """The winner against the baseline that did best, both trained anew on the same fresh folds.

    None where there are no fresh folds or no baseline was trained on them.
    """
    number = next((each.number for each in lease.refits if each.number is not None), None)
    fresh = [each for each in said if each.of.kind == "confirm"]
    winner = next((each for each in fresh if each.of.number == number), None)
    baseline = next((each for each in fresh if each.of.model), None)
    if metric not in metrics.METRICS or winner is None or baseline is None:
        return None
    direction = METRICS[metric].direction
    apart = _apart(held_out, baseline.of.model or "", metric, direction)
    apart_rows = data.group is None and data.weight is None and not data.schema.ordered
    if metric == "accuracy" and apart_rows:
        found = verdict.of_rows(_right(winner, data), _right(baseline, data), held_out=apart)
    else:
        ours, theirs = (np.array(each.of.folds[0], np.float64) for each in (winner, baseline))
        given = measured.objective(lease).validation
        # A repeat of a hold-out is one part, however much that scores.
        scored = len(winner.prediction) / len(ours)
        share = given.share if given.method == "hold_out" else scored
        found = verdict.of_folds(
            ours,
            theirs,
            direction,
            n_train=data.rows * (1 - share),
            n_valid=data.rows * share,
            held_out=apart,
        )
    if not math.isfinite(found.difference):
        return None
    return protocol.Verdict(
        baseline=baseline.of.model or "", metric=metric, **dataclasses.asdict(found)
    )


def _right(said: Said, data: Dataset) -> NDArray[np.bool_]:
    """Which rows of the first repeat have their likeliest class right, of those that are scored."""
    scored = ~np.isnan(said.prediction[0]).any(1)
    right: NDArray[np.bool_] = said.prediction[0].argmax(1)[scored] == data.target[scored]
    return right


def _apart(
    held_out: Sequence[protocol.Estimate],
    baseline: str,
    metric: str,
    direction: protocol.Direction,
) -> float | None:
    """The winner's held-out score less the baseline's, positive where the winner is better."""
    scores = {each.name: each.value for each in held_out if each.metric == metric}
    if "winner" not in scores or baseline not in scores:
        return None
    apart = scores["winner"] - scores[baseline]
    return apart if direction == "maximize" else -apart
