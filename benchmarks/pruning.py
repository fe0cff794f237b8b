"""Pruners on recorded learning curves: what they save, and what they give away.

Of each study 100 trials in random order, and the same ones with no pruner. `share`: of the epochs
that trials without a pruner take. `wrong`: of the best ten trials the share that was ended early.
`rank`: the share of all settings that are better than the winner. `time`: epochs until a complete
trial is as good as the winner of the unpruned 100 trials, as a part of all epochs of these, where
the search goes on with other settings as long as there are any; `reached`: how often it got there.
Of a Gaussian process the regret (0 best setting, 1 the one in the middle) with and without a
pruner, at equal epochs.

usage: python -m benchmarks.pruning [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lines import emit
from benchmarks.recorded import FOLDED, TASKS, Recorded, Study, load
from hpo_service.samplers import SAMPLERS, Ask

TRIALS, BEST = 100, 10
# How often a target has to be reached to count.
SURELY = 0.95
SEEDS, QUICK_SEEDS = 20, 3
# Of pruners those that compare fold by fold are left out where there are none; threshold has no
# bound that suits all curves, and no options make it one.
WITHOUT_FOLDS = ("none", "median", "percentile", "asha", "hyperband", "patience")
WITH_FOLDS = (*WITHOUT_FOLDS, "wilcoxon", "racing")
# Of the search with a Gaussian process: what is spent, in whole trainings. It is on TaskSet alone:
# of 200 settings there are none left when pruned trials have spent as much.
TRAININGS, START = 50, 10
SEARCHED = ("none", "asha", "hyperband", "median")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What one pruner came to in one study; see above."""

    share: float
    wrong: float
    rank: float
    time: float
    reached: float


def outcome(recorded: Recorded, pruner: str, order: Sequence[int], workers: int) -> Outcome:
    """Of a study of the first metric, whose trials try all settings in this order."""
    study, known = Study(recorded, pruner), recorded.mean[:, -1, 0]
    first, rest = list(order[:TRIALS]), list(order[TRIALS:])
    whole, target, reached = _whole(recorded, first), np.nanmin(known[first]), 0
    for number in study.run(first, workers):
        if not reached and study.final[number, 0] <= target:
            reached = study.epochs
    share, final = study.epochs / whole, dict(zip(study.settings, study.final[:, 0], strict=True))
    for number in study.run(rest if not reached else [], workers):
        if study.final[number, 0] <= target:
            reached = study.epochs
            break
    best = sorted(first, key=lambda each: (np.isnan(known[each]), known[each]))[:BEST]
    return Outcome(
        share=share,
        wrong=float(np.mean([np.isnan(final[each]) for each in best])),
        rank=float((known < np.nanmin([*final.values(), np.inf])).mean()),
        time=(reached or study.epochs) / whole,
        reached=float(reached > 0),
    )


def _whole(recorded: Recorded, settings: Sequence[int]) -> int:
    """The epochs of these trials without a pruner: all, or those until one has diverged."""
    diverged = np.isnan(recorded.mean[list(settings), :, 0])
    return int(np.where(diverged.any(1), diverged.argmax(1) + 1, recorded.steps).sum())


def compare(case: str, names: Sequence[str], pruners: Sequence[str], seeds: int) -> None:
    """Every pruner in studies of some curves, each order of the settings a study."""
    for pruner in pruners:
        given = pruner in ("asha", "racing")
        for workers in (1, 4):
            found = [
                outcome(load(name), pruner, order, workers)
                for name in names
                for order in orders(len(load(name).rows), seeds)
            ]
            mean = {n: float(np.mean([vars(each)[n] for each in found])) for n in vars(found[0])}
            more = {name: round(value, 4) for name, value in mean.items()}
            emit(
                "pruning",
                f"{case}, {pruner}, {workers} at a time: epochs until as good as unpruned",
                "share",
                mean["time"],
                target="<= 1/3 by asha or racing" if given else None,
                # Where it did not get there, the epochs say little.
                met=mean["time"] <= 1 / 3 and mean["reached"] >= SURELY if given else None,
                more=more | {"studies": len(found)},
            )


def orders(settings: int, seeds: int) -> Iterator[list[int]]:
    """Of each study."""
    for seed in range(seeds):
        yield np.random.default_rng(seed).permutation(settings).tolist()


# --- several metrics ----------------------------------------------------------------------------


def fronts(pruners: Sequence[str], seeds: int) -> None:
    """Accuracy and log loss together: how much of the front's area is kept."""
    for pruner in pruners:
        kept, share = [], []
        for name in FOLDED:
            recorded = load(name, ("accuracy", "log_loss"))
            for order in (each[:TRIALS] for each in orders(len(recorded.rows), seeds)):
                study = Study(recorded, pruner)
                list(study.run(order))
                whole, scale = recorded.mean[order, -1], np.nanmedian(recorded.mean[:, -1], axis=0)
                kept.append(_area(study.final, scale) / _area(whole, scale))
                share.append(study.epochs / _whole(recorded, order))
        case = f"two metrics, {pruner}: dominated area kept"
        more = {"share": round(float(np.mean(share)), 4), "studies": len(kept)}
        emit("pruning", case, "share", float(np.mean(kept)), more=more)


def _area(losses: Floats, reference: Floats) -> float:
    """What the trials dominate below a reference point of two losses."""
    known = losses[~np.isnan(losses).any(1) & (losses < reference).all(1)]
    area, lowest = 0.0, float(reference[1])
    for one, other in known[np.lexsort(known.T[::-1])].tolist():
        if other < lowest:
            area += (float(reference[0]) - one) * (lowest - other)
            lowest = other
    return area


# --- a search that learns -------------------------------------------------------------------------


def search(recorded: Recorded, pruner: str, seed: int) -> float:
    """The regret that a Gaussian process comes to with the epochs of `TRAININGS` whole trials."""
    study, sampler = Study(recorded, pruner), SAMPLERS["gp"].make(recorded.cube, {})
    first = np.random.default_rng(seed).permutation(len(recorded.rows))[:START].tolist()
    known = recorded.mean[:, -1, 0]
    while study.epochs < TRAININGS * recorded.steps:
        number = len(study.settings)
        if number < len(first):
            setting = first[number]
        else:
            asked = Ask(number, SAMPLERS["gp"].seed(seed, number))
            row = _row(recorded, sampler.propose(study.seen(), asked))
            setting = recorded.nearest(row, study.settings)
        list(study.run([setting]))
    best = np.nanmin(known)
    return float((np.nanmin(study.final[:, 0]) - best) / (np.nanmedian(known) - best))


def _row(recorded: Recorded, found: Sequence[Any]) -> Floats:
    return np.asarray(recorded.cube.rows([found[0].params])[0])


def searches(case: str, names: Sequence[str], pruners: Sequence[str], seeds: int) -> None:
    """Each pruner beside none, on the same seeds."""
    found = {
        pruner: np.array([search(load(name), pruner, s) for name in names for s in range(seeds)])
        for pruner in pruners
    }
    for pruner in pruners[1:]:
        apart = found[pruner] - found["none"]
        drawn = np.random.default_rng(0).integers(len(apart), size=(10_000, len(apart)))
        low, high = np.quantile(apart[drawn].mean(1), [0.025, 0.975])
        emit(
            "pruning",
            f"{case}, gp with {pruner}: regret at the epochs of {TRAININGS} trainings",
            "regret",
            float(found[pruner].mean()),
            peer=float(found["none"].mean()),
            peer_name="gp without a pruner",
            target="not surely worse",
            met=bool(low <= 0),
            more={"difference": [round(float(low), 5), round(float(high), 5)], "runs": len(apart)},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    seeds = QUICK_SEEDS if parser.parse_args().quick else SEEDS
    for name in FOLDED:
        compare(name, [name], WITH_FOLDS, seeds)
    compare("TaskSet", TASKS, WITHOUT_FOLDS, seeds)
    fronts(("none", "median", "asha", "hyperband", "racing"), seeds)
    quick = seeds == QUICK_SEEDS
    searches("TaskSet", TASKS[:1] if quick else TASKS, SEARCHED[: 2 if quick else None], seeds // 2)


if __name__ == "__main__":
    main()
