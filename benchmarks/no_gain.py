"""A search that ends when there is nothing to gain: how early, and what it gives away.

The settings of recorded fold curves are tried in random order, until what ten more trials can be
expected to gain is less than the noise of the best value, looked at after every fifth trial.

usage: python -m benchmarks.no_gain [--quick]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.lines import emit
from benchmarks.record_curves import CURVES, NAMES, params
from hpo_service import catalog, gain
from hpo_service.cube import Cube
from hpo_service.selection import corrected_error

EVERY = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class End:
    """After so many trials, so far below the best of all settings, with a best value so noisy."""

    trials: int
    lost: float
    noise: float


def end(rows: Floats, folds: Floats, ratio: float, cube: Cube) -> End:
    """Where the settings (rows), in this order, end by the accuracies of their `folds`."""
    losses = -folds.mean(1)
    for n in range(gain.NEEDED, len(losses) + 1, EVERY):
        best = int(losses[:n].argmin())
        noise = corrected_error(folds[best].tolist(), ratio)
        half = losses[:n] <= np.median(losses[:n])
        expected, _ = gain.expected_of(cube, rows[:n][half], losses[:n][half])
        if gain.AHEAD * expected <= noise:
            break
    return End(n, float(losses[best] - losses.min()), noise)


def measure(name: str, seeds: int) -> None:
    cube = Cube(catalog.FAMILIES["mlp"].default_space)
    with np.load(CURVES / f"{name}.npz") as stored:
        # A setting that has diverged guesses.
        folds = np.nan_to_num(stored["accuracy"][:, -1].astype(np.float64), nan=0.1)
        ratio = float(stored["ratio"])
    rows = cube.rows([params(number) for number in range(len(folds))])
    ends = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(folds))
        ends.append(end(rows[order], folds[order], ratio, cube))
    trials, lost, noise = (np.array([getattr(e, n) for e in ends]) for n in vars(ends[0]))
    more = {"most_trials": int(trials.max()), "seeds": seeds, "noise": round(noise.mean(), 5)}
    case = f"{name}, {len(folds)} settings"
    emit("no_gain", f"{case}: trials, median", "trials", float(np.median(trials)), more=more)
    emit(
        "no_gain",
        f"{case}: accuracy given away, mean",
        "accuracy",
        float(lost.mean()),
        target="less than the noise",
        met=bool(lost.mean() < noise.mean()),
        more=more | {"largest": round(lost.max(), 5)},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    seeds = 4 if parser.parse_args().quick else 40
    for name in NAMES:
        measure(name, seeds)


if __name__ == "__main__":
    main()
