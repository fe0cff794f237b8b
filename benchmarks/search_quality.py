"""What samplers find with the same number of trials, on problems whose best setting is known.

Each run is a study of 100 trials in memory. Runs are kept in a file and not repeated, so that this
can be ended and begun again. Claims rest on the half of the problems that nothing was chosen on.

usage: python -m benchmarks.search_quality [--quick] [--runs FILE] [--methods A,B] [--problems A,B]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import optuna

from benchmarks import search_report
from benchmarks.problems import PROBLEMS
from benchmarks.search_runs import METHODS, known, runs

SEEDS, QUICK_SEEDS = 20, 2
# Of the short form: some of each kind, and none of what takes longest.
QUICK = ("hpobench-australian", "nasbench201-cifar10", "bbob-f15", "conditional-f9-f15")
SLOWEST = "Optuna GP"
OURS = ("auto", "gp", "tpe")


def main() -> None:
    """Make the runs that are not known, then all lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few problems and seeds")
    parser.add_argument("--runs", type=Path, default=Path("build/search_quality.jsonl"))
    parser.add_argument("--methods", default="", help="of which runs are made: all")
    parser.add_argument("--problems", default="", help="on which runs are made: all")
    parser.add_argument("--report", action="store_true", help="make no runs")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")  # Optuna's, about what is experimental
    methods = [m for m in METHODS if not given.quick or m != SLOWEST]
    seeds = QUICK_SEEDS if given.quick else SEEDS
    if not given.report:
        names = given.problems.split(",") if given.problems else QUICK if given.quick else PROBLEMS
        asked = given.methods.split(",") if given.methods else methods
        for _ in runs(given.runs, list(names), asked, range(seeds)):
            pass
    found = list(known(given.runs).values())
    for half in ("choose", "report"):
        problems = {n: p for n, p in PROBLEMS.items() if p.half == half and p.counted}
        search_report.report(search_report.read(found, problems, seeds), OURS, half)
    flat = {n: p for n, p in PROBLEMS.items() if not p.counted}
    search_report.levels(search_report.read(found, flat, seeds), "flat problems, not counted")


if __name__ == "__main__":
    main()
