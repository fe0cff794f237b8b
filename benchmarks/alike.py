"""What packs of one shape cost the search, beside packs of any shapes.

Batches of eight trials, proposed at once and ended together, on tables of real networks: 2, 4 or
all 8 in a row have one depth, width and batch size. The regret is 0 for the best setting of a table
and 1 for the one in the middle.

usage: python -m benchmarks.alike [--quick]
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from benchmarks.lines import emit
from benchmarks.memory import Memory
from benchmarks.problems import PROBLEMS, Made, Problem
from hpo_service.proposing import Packs, Proposer
from hpo_service.protocol import ExternalObjective, Plugin, StudySpec
from hpo_service.protocol.study import Budget
from hpo_service.tables import Study

PACK, TRIALS = 8, 96
SIZES = (2, 4, 8)
SHAPE = ("depth", "width", "batch_size")
SAMPLERS = ("gp", "tpe")
TABLES = [n for n, each in PROBLEMS.items() if n.startswith("hpobench") and each.counted]
LEVELS = (48, 96)

Floats = NDArray[np.float64]


def proposer(problem: Problem, sampler: str, seed: int) -> Proposer:
    """What the server has of a study."""
    spec = StudySpec(
        name="packs",
        objective=ExternalObjective(kind="external"),
        search_space=problem.space,
        sampler=Plugin(name=sampler),
        budget=Budget(trials=TRIALS),
        seed=seed,
    )
    made = spec.model_dump(mode="json")
    return Proposer(
        Study(id=0, name="packs", revision=0, seed=seed, spec=made, directions=["minimize"])
    )


def regrets(problem: Problem, made: Made, sampler: str, seed: int, size: int) -> Floats:
    """The best so far (levels,) of one study."""
    asked = proposer(problem, sampler, seed)
    memory = Memory(asked.cube, TRIALS)
    losses: list[float] = []
    while memory.n < TRIALS:
        found = asked.suggestions(
            asked.sampler, memory.seen(), asked.ask(memory.n, PACK), Packs(size, SHAPE)
        )
        numbers = [memory.start(each) for each in found]
        for number, each in zip(numbers, found, strict=True):
            losses.append(made.loss(each.params))
            memory.finish(number, losses[-1])
    best = np.minimum.accumulate(made.regret(np.array(losses)))
    return np.asarray(best[np.array(LEVELS) - 1])


def measure(sampler: str, seeds: int) -> None:
    """The part of the gain over random that packs keep of what trials of any shape gain."""
    known = [(PROBLEMS[name], PROBLEMS[name].make()) for name in TABLES]

    def mean(given: str, size: int) -> Floats:
        found = [regrets(*each, given, seed, size) for each in known for seed in range(seeds)]
        return np.asarray(np.mean(found, axis=0))

    random, free = mean("random", 1), mean(sampler, 1)
    for size in SIZES:
        alike = mean(sampler, size)
        for at, level in enumerate(LEVELS):
            more = {"alike": alike[at], "free": free[at], "random": random[at]}
            emit(
                "alike",
                f"{sampler}, packs of {PACK}, {size} of one shape, {level} trials: gain kept",
                "share",
                float((random - alike)[at] / (random - free)[at]),
                more={way: round(float(value), 4) for way, value in more.items()}
                | {"seeds": seeds},
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    seeds = 3 if parser.parse_args().quick else 20
    for sampler in SAMPLERS:
        measure(sampler, seeds)


if __name__ == "__main__":
    main()
