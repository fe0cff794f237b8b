"""What the runs of `benchmarks.search_quality` say: figures with intervals, as JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.lines import emit
from benchmarks.problems import Problem
from benchmarks.search_runs import Run

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

BENCH = "search_quality"
BUDGETS = (25, 50, 100)
PEER, REFERENCE = "Optuna GP", "random"
# To be better than, with an interval that excludes 0.
BEATEN = ("Optuna TPE", "random", "grid")
# Of the regret of random search: how much worse than the peer the interval may reach.
NOT_WORSE = 0.05
# Of the peer's time per suggestion, on spaces with discrete parameters and on others.
TIME = {True: 1 / 8, False: 1 / 4}
# Workers and trials: the share of the gain over random search that may be lost.
LOST = {(4, 50): 0.10, (16, 50): 0.35, (16, 100): 0.20}
RESAMPLES = 2000


@dataclass(frozen=True)
class Scores:
    """Of each method: regret (problems, seeds, budgets) of the best setting so far, the share of
    all settings of a table that are better, and seconds a suggestion (problems, seeds); NaN where
    there is no such run.
    """

    problems: Mapping[str, Problem]
    regret: Mapping[str, Floats]
    share: Mapping[str, Floats]
    seconds: Mapping[str, Floats]
    runs: Mapping[tuple[str, str, int], Run]

    def of(self, wanted: Callable[[Problem], bool]) -> Scores:
        """Those of some problems alone."""
        at = [i for i, each in enumerate(self.problems.values()) if wanted(each)]
        regret, share, seconds = (
            {name: each[at] for name, each in of.items()}
            for of in (self.regret, self.share, self.seconds)
        )
        kept = {name: each for name, each in self.problems.items() if wanted(each)}
        return Scores(kept, regret, share, seconds, self.runs)


def read(runs: Iterable[Run], problems: Mapping[str, Problem], seeds: int) -> Scores:
    """The runs of these problems."""
    names, known = list(problems), {}
    shape = len(names), seeds
    regret: dict[str, Floats] = {}
    share: dict[str, Floats] = {}
    seconds: dict[str, Floats] = {}
    made = cache(lambda name: problems[name].make())
    for run in runs:
        if run.problem not in problems or run.seed >= seeds:
            continue
        known[run.method, run.problem, run.seed] = run
        at = names.index(run.problem), run.seed
        best = np.array([min(run.losses[:budget]) for budget in BUDGETS])
        for columns, values in (
            (regret, made(run.problem).regret(best)),
            (share, made(run.problem).better(best)),
            (seconds, run.seconds / len(run.losses)),
        ):
            empty = np.full((*shape, *np.shape(values)), np.nan)
            columns.setdefault(run.method, empty)[at] = values
    return Scores(problems, regret, share, seconds, known)


def interval(values: Floats, seed: int = 0) -> tuple[float, float, float]:
    """The mean over problems and its 95 % interval: problems and their seeds drawn again."""
    known = np.sort(values[~np.isnan(values).all(1)], axis=1)  # which puts NaN last
    counts, column = (~np.isnan(known)).sum(1), np.arange(known.shape[1])
    rng = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for turn in range(RESAMPLES):
        rows = rng.integers(len(known), size=len(known))
        n = counts[rows, None]
        drawn = known[rows[:, None], (rng.random(known.shape) * n).astype(int)]
        means[turn] = _mean(np.where(column < n, drawn, np.nan))
    low, high = np.quantile(means, [0.025, 0.975])
    return _mean(values), float(low), float(high)


def _mean(values: Floats) -> float:
    """Over problems, of each one's mean over its seeds."""
    known = ~np.isnan(values)
    counts = known.sum(1)
    sums = np.where(known, values, 0.0).sum(1)
    return float((sums[counts > 0] / counts[counts > 0]).mean())


# --- lines --------------------------------------------------------------------------------------


def report(scores: Scores, ours: Sequence[str], half: str) -> None:
    """All lines of one half of the problems."""
    levels(scores, half)
    for kind in dict.fromkeys(each.kind for each in scores.problems.values()):
        levels(scores.of(lambda each, kind=kind: each.kind == kind), f"{half}, {kind}")
    for name in (each for each in ours if each in scores.regret):
        _not_worse(scores, name, half)
        for other in BEATEN:
            _better(scores, name, other, half)
        _time(scores, name, half)
        _parallel(scores, name, half)


def levels(scores: Scores, where: str) -> None:
    """Regret, share of better settings and mean rank of each method."""
    alone = [name for name in scores.regret if " x" not in name]
    for at, budget in enumerate(BUDGETS if alone else ()):
        table = np.stack([scores.regret[name][:, :, at] for name in alone])
        complete = ~np.isnan(table).any(0)
        if not complete.any():
            continue
        # Rounded, or the last bits of equal losses would rank them.
        ranks = rankdata(table[:, complete].round(9), axis=0).mean(1)
        for name, rank in zip(alone, ranks, strict=True):
            value, low, high = interval(np.where(complete, scores.regret[name][:, :, at], np.nan))
            share = np.where(complete, scores.share[name][:, :, at], np.nan)
            more = {
                "interval": _rounded(low, high),
                "mean_rank": round(float(rank), 2),
                "better_settings": None if np.isnan(share).all() else round(_mean(share), 5),
                **_told(complete),
            }
            emit(BENCH, f"regret at {budget}, {where}, {name}", "regret", value, more=more)


def _not_worse(scores: Scores, name: str, half: str) -> None:
    both = _both(scores, name, PEER, REFERENCE)
    for at, budget in enumerate(BUDGETS if both.any() else ()):
        value, low, high = _difference(scores, name, PEER, at)
        random = _mean(np.where(both, scores.regret[REFERENCE][:, :, at], np.nan))
        emit(
            BENCH,
            f"{name} - {PEER} at {budget}, {half}",
            "regret",
            value,
            target=f"<= {NOT_WORSE} of random's, upper end" if budget >= 50 else None,
            met=high <= NOT_WORSE * random if budget >= 50 else None,
            more={
                "interval": _rounded(low, high),
                "upper_end_of_randoms": round(high / random, 4),
                **_told(both),
            },
        )


def _better(scores: Scores, name: str, other: str, half: str) -> None:
    both = _both(scores, name, other)
    for at, budget in enumerate(BUDGETS if both.any() else ()):
        value, low, high = _difference(scores, name, other, at)
        emit(
            BENCH,
            f"{name} - {other} at {budget}, {half}",
            "regret",
            value,
            target="interval below 0" if budget >= 50 else None,
            met=high < 0 if budget >= 50 else None,
            more={"interval": _rounded(low, high), **_told(both)},
        )


def _difference(scores: Scores, name: str, other: str, at: int) -> tuple[float, float, float]:
    return interval(scores.regret[name][:, :, at] - scores.regret[other][:, :, at])


def _time(scores: Scores, name: str, half: str) -> None:
    """The seconds of a suggestion by those of the peer, the median over all runs."""
    for discrete, target in TIME.items():
        some = scores.of(lambda each, discrete=discrete: each.discrete == discrete)
        both = _both(some, name, PEER)
        if not both.any():
            continue
        ours, peers = some.seconds[name], some.seconds[PEER]
        share = float(np.median(ours[both] / peers[both]))
        emit(
            BENCH,
            f"{name}, time per suggestion, {'discrete' if discrete else 'continuous'}, {half}",
            "s",
            float(np.median(ours[both])),
            peer=float(np.median(peers[both])),
            peer_name=PEER,
            target=f"<= {target} of the peer's",
            met=share <= target,
            more={"share": round(share, 4)},
        )


def _parallel(scores: Scores, name: str, half: str) -> None:
    """Which part of the gain over random search is lost where several workers ask."""
    for (workers, budget), target in LOST.items():
        many, at = f"{name} x{workers}", BUDGETS.index(budget)
        three = _both(scores, REFERENCE, name, many)
        if not three.any():
            continue
        random, one, other = (
            _mean(np.where(three, scores.regret[each][:, :, at], np.nan))
            for each in (REFERENCE, name, many)
        )
        lost = (other - one) / (random - one)
        emit(
            BENCH,
            f"{name}, {workers} workers, gain lost at {budget}, {half}",
            "share",
            lost,
            target=f"<= {target}",
            met=lost <= target,
            more={
                "regret": _rounded(random, one, other),
                "time": _time_to_same(scores, name, many, budget),
                **_told(three),
            },
        )


def _time_to_same(scores: Scores, name: str, many: str, budget: int) -> float | None:
    """Of one worker's time for the budget the part that many need for what it has found by then;
    the median over all runs, or none where half of them never find it.
    """
    found = []
    for (method, *key), run in scores.runs.items():
        if method == many and (alone := scores.runs.get((name, *key))):
            wanted = min(alone.losses[:budget])
            ends = [e for e, loss in zip(run.ended, run.losses, strict=True) if loss <= wanted]
            found.append(min(ends, default=np.inf) / max(alone.ended[:budget]))
    middle = float(np.median(found))
    return round(middle, 3) if np.isfinite(middle) else None


def _both(scores: Scores, *names: str) -> Mask:
    """Where (problems, seeds) all of these methods have a run."""
    missing = np.full((len(scores.problems), 1), np.nan)
    columns = [scores.regret[n][:, :, 0] if n in scores.regret else missing for n in names]
    return ~np.isnan(sum(columns))


def _told(known: Mask) -> dict[str, object]:
    return {"problems": int(known.any(1).sum()), "runs": int(known.sum())}


def _rounded(*values: float) -> list[float]:
    return [round(float(value), 5) for value in values]
