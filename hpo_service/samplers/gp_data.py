"""What a Gaussian process is told of a study: never more than a bounded number of trials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo_service.cube import Rows
from hpo_service.seen import Seen

Vector = NDArray[np.float64]
Indices = NDArray[np.intp]

# Trials that the model is fitted to: so many of the best, of the newest, and of all others.
BEST, NEWEST, OTHERS = 100, 100, 100
# How far above the best loss differences begin to count for less: of the middle one's distance.
BEND = 0.4
# So many of the trials that run, and of those that came to nothing: the newest.
WITHOUT_VALUE = 100
# Steps at which pruned trials are compared with complete ones: each so many times the last.
STEP_RATIO = 1.5
# Complete trials that a regression on a step needs.
NEEDED = 4


@dataclass(frozen=True)
class Data:
    """Trials by number: those with a value, those that run, those that came to nothing.

    `values` (trials,) are standardised logarithms, lower is better; `noise` (trials,) is the
    variance of each beyond the noise of all.
    """

    rows: Rows
    values: Vector
    noise: Vector
    running: Rows
    failed: Rows

    def best(self, count: int) -> Rows:
        """The rows of the best trials, the best first."""
        return self.rows[np.argsort(self.values, kind="stable")[:count]]


def read(seen: Seen, rng: np.random.Generator) -> Data:
    """Of the trials with a value the best, the newest, and a sample of all others.

    A pruned trial has the value that its last step predicts. Where none can be predicted, it came
    to nothing, as failed and cancelled ones did.
    """
    losses, variances = seen.losses[:, 0].copy(), np.zeros(len(seen))
    complete = seen.where("complete") & seen.legal & ~np.isnan(losses)
    losses[~complete] = np.nan
    pruned = np.flatnonzero(seen.where("pruned") & seen.legal & (seen.steps > 0))
    losses[pruned], variances[pruned] = _predicted(seen, np.flatnonzero(complete), pruned)
    valued = ~np.isnan(losses)
    chosen = np.flatnonzero(valued)
    chosen = chosen[_chosen(losses[chosen], rng)]
    values, slopes = _standardised(losses[chosen])
    failed = seen.legal & ~seen.pending & ~valued
    return Data(
        rows=seen.rows[chosen],
        values=values,
        noise=variances[chosen] * slopes**2,
        running=seen.rows[np.flatnonzero(seen.legal & seen.pending)[-WITHOUT_VALUE:]],
        failed=seen.rows[np.flatnonzero(failed)[-WITHOUT_VALUE:]],
    )


def _chosen(losses: Vector, rng: np.random.Generator) -> Indices:
    if len(losses) <= BEST + NEWEST + OTHERS:
        return np.arange(len(losses))
    kept = np.zeros(len(losses), dtype=bool)
    kept[np.argsort(losses, kind="stable")[:BEST]] = True
    kept[np.flatnonzero(~kept)[-NEWEST:]] = True
    kept[rng.choice(np.flatnonzero(~kept), OTHERS, replace=False)] = True
    return np.flatnonzero(kept)


def _standardised(losses: Vector) -> tuple[Vector, Vector]:
    """Mean 0, deviation 1, in logarithms above the best; and the slope of that at each loss.

    A model is to tell good trials apart: among bad ones, and diverged ones above all, differences
    count for less.
    """
    nothing = np.zeros(len(losses))
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return nothing, nothing
    losses = np.clip(losses, finite.min(), finite.max())
    size = float(np.abs(losses).max()) or 1.0  # first, or a difference would overflow
    above = losses / size - float(losses.min()) / size
    bend = BEND * float(np.median(above))
    values = _drawn_in(np.log1p(above / bend) if bend > 0 else above)
    deviation = float(values.std())
    if deviation < 1e-12:
        return nothing, nothing
    slopes = 1 / (bend + above) if bend > 0 else np.ones(len(losses))
    return (values - values.mean()) / deviation, slopes / (size * deviation)


def _drawn_in(losses: Vector) -> Vector:
    """No loss higher than 1.5 times the middle half above it (Tukey's fence)."""
    quarter, three_quarters = np.quantile(losses, [0.25, 0.75])
    fence = three_quarters + 1.5 * (three_quarters - quarter)
    return np.minimum(losses, fence) if three_quarters > quarter else losses


# --- pruned trials --------------------------------------------------------------------------


def _predicted(seen: Seen, complete: Indices, pruned: Indices) -> tuple[Vector, Vector]:
    """What the pruned trials would have come to and the variance of that; NaN where unknown."""
    values, variances = np.full(len(pruned), np.nan), np.zeros(len(pruned))
    if len(complete) < NEEDED:
        return values, variances
    for step in _apart(np.unique(seen.steps[pruned]).tolist()):
        curve = seen.at(step)[:, 0]
        known = complete[np.isfinite(curve[complete]) & np.isfinite(seen.losses[complete, 0])]
        at = (seen.steps[pruned] >= step) & np.isfinite(curve[pruned])
        if len(known) >= NEEDED and at.any():
            values[at], variances[at] = _regressed(
                curve[known], seen.losses[known, 0], curve[pruned[at]]
            )
    return values, variances


def _apart(steps: Iterable[int]) -> Iterator[int]:
    """Few of many ascending steps."""
    last = 0.0
    for step in steps:
        if step >= last * STEP_RATIO:
            yield step
            last = step


def _regressed(early: Vector, late: Vector, given: Vector) -> tuple[Vector, float]:
    """`late` at `given` by a line through complete trials, and the variance around it.

    Never better than a complete trial that was as good early: a pruner ended the others because
    they were worse.
    """
    late = _drawn_in(late)
    fenced = _drawn_in(np.r_[early, given])
    early, given = fenced[: len(early)], fenced[len(early) :]
    spread = float(early.var())
    slope = max(0.0, float(np.cov(early, late, bias=True)[0, 1]) / spread) if spread > 0 else 0.0
    line = late.mean() + slope * (given - early.mean())
    order = np.argsort(early, kind="stable")
    worst = np.r_[-np.inf, np.maximum.accumulate(late[order])]
    bound = worst[np.searchsorted(early[order], given, side="right")]
    rest = late - late.mean() - slope * (early - early.mean())
    return np.maximum(line, bound), float(rest.var())
