"""Whether the best trial of a search could still be beaten by more than chance."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
from sqlalchemy.orm import Session

from hpo_service import curves, protocol, ranking
from hpo_service.cube import Cube, Rows
from hpo_service.samplers import gp_model as model
from hpo_service.samplers.gp import points_of
from hpo_service.samplers.gp_search import Effort, Explorer
from hpo_service.seen import Mask, Seen
from hpo_service.selection import corrected_error
from hpo_service.tables import Study

log = logging.getLogger(__name__)

# Completed trials before a model of the better half can be trusted with the end of a search; at
# most so many of the newest are shown to it.
NEEDED, SHOWN = 30, 300
# Trials whose gain is weighed against the noise.
AHEAD = 10
EFFORT = Effort(points=1024, lineages=8, rounds=6)


def of(session: Session, study: Study, seen: Seen) -> protocol.Gain | None:
    """What the next `AHEAD` trials can be expected to gain at most, and the noise of the best
    value, both in the study's metric.

    The gain is the largest expected improvement anywhere in the space, as often (Nguyen et al.,
    "Regret for expected improvement over the best-observed value and stopping condition", 2017).
    The noise is the standard error of the best trial's mean over folds that share training rows, as
    in Makarova et al., "Automatic termination for hyperparameter optimization" (2022), or where
    there are no folds what the model cannot explain. None while fewer than `NEEDED` trials have
    completed.
    """
    complete = seen.where("complete") & seen.legal & np.isfinite(seen.losses[:, 0])
    if np.count_nonzero(complete) < NEEDED:
        return None
    try:
        expected, unexplained = expected_of(seen.cube, *better_half(seen, complete))
    except np.linalg.LinAlgError:  # too many trials alike: the search goes on
        log.exception("What study %r can still gain is not known.", study.name)
        return None
    noise = _of_folds(session, study)
    return protocol.Gain(expected=AHEAD * expected, noise=unexplained if noise is None else noise)


def better_half(seen: Seen, complete: Mask) -> tuple[Rows, model.Vector]:
    """A model of all trials is unsure of everything where some are far worse than the others."""
    numbers = np.flatnonzero(complete)
    losses = seen.losses[numbers, 0]
    better = numbers[losses <= np.median(losses)][-SHOWN:]
    return seen.rows[better], seen.losses[better, 0]


def expected_of(cube: Cube, rows: Rows, losses: model.Vector) -> tuple[float, float]:
    """The largest expected improvement on the best of the losses (trials,), and the deviation of
    one loss from what is expected of it.
    """
    size = float(np.abs(losses).max()) or 1.0  # first, or a square would overflow
    spread = float((losses / size).std())
    if not spread > 0:
        return 0.0, 0.0
    values, points = (losses / size - (losses / size).mean()) / spread, points_of(cube, rows)
    scale = size * spread
    exact = np.zeros(len(values))
    given = model.fit(points, values, exact, cube.unordered, None)
    posterior = model.Posterior.of(points, values, exact, cube.unordered, given)
    best = float(posterior.mean(points).min())

    def improvement(rows: Rows) -> model.Vector:
        mean, deviation = posterior.mean_and_deviation(points_of(cube, rows))
        return model.log_expected_improvement(mean, deviation, best)

    free = np.full(len(cube.names), np.nan)
    explorer = Explorer(cube, free, np.random.default_rng(0), EFFORT)
    incumbents = rows[np.argsort(losses, kind="stable")[: EFFORT.lineages // 2]]
    found = explorer.ranked(improvement, incumbents)[:1]
    largest = float(np.exp(improvement(found)).max(initial=0.0))
    return scale * largest, scale * math.sqrt(given.noise)


def _of_folds(session: Session, study: Study) -> float | None:
    """The standard error of the best trial's first metric; None where it has no folds."""
    trials = ranking.first(session, study, 1)
    if not trials:
        return None
    curve = curves.load(session, [trials[0].id]).get(trials[0].id, [])
    folds = curves.folds_at(curve, trials[0].epoch)
    known = [value for value in (folds[0] if folds else []) if value is not None]
    error = corrected_error(known, _scored_by_trained(study, known))
    return None if math.isnan(error) else error


def _scored_by_trained(study: Study, folds: Sequence[float]) -> float:
    """Rows scored by rows trained on, of a fold; as in k-fold where the study does not say."""
    objective = (study.spec or {}).get("objective", {})
    if "validation" not in objective:
        return 1 / max(1, len(folds) - 1)
    share = protocol.Validation.model_validate(objective["validation"]).scored_share
    return share / (1 - share)
