"""What samplers find with the same number of trials, on problems whose best setting is known.

Each run is one study of 100 trials in memory. At one seed all methods that learn begin with the
same ten random points. Optuna's samplers are asked through its own interface. A run that is known
is not repeated: its losses lie in a file, under the code that proposed them.

usage: python -m benchmarks.search_quality [--quick] [--runs FILE] [--methods NAME,NAME ...]
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

import hpo_service
from benchmarks.memory import Memory
from benchmarks.problems import PROBLEMS, Made, Problem
from hpo_service import space
from hpo_service.cube import Cube
from hpo_service.protocol import Choice, FloatRange
from hpo_service.samplers import SAMPLERS, Ask, Suggestion
from hpo_service.samplers.independent import anywhere
from hpo_service.space import Params, Space

TRIALS, START, SEEDS, QUICK_SEEDS = 100, 10, 20, 2
RUNS = Path("build/search_quality.jsonl")


@dataclass(frozen=True)
class Run:
    """One study: the loss of each trial in the order they were asked for, when each ended (in mean
    durations of a trial), and the processor seconds that all proposals took.
    """

    problem: str
    method: str
    seed: int
    version: str
    losses: list[float]
    ended: list[float]
    seconds: float


@dataclass(frozen=True)
class Method:
    """A sampler of ours under `sampler`, or Optuna's made by `peer(seed)`; asked by `workers`."""

    sampler: str = ""
    peer: Callable[[int], BaseSampler] | None = None
    workers: int = 1
    # Of our samplers the files a run depends on, beside those of all.
    sources: str = ""
    learns: bool = True

    @property
    def version(self) -> str:
        """Changes with the code that proposes."""
        return f"optuna {optuna.__version__}" if self.peer else _version(self.sources)


@cache
def _version(sources: str) -> str:
    root = Path(hpo_service.__file__).parent
    files = [root / "cube.py", *sorted((root / "samplers").glob(sources))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _parallel(sampler: str, sources: str) -> dict[str, Method]:
    names = {1: sampler, 4: f"{sampler} x4", 16: f"{sampler} x16"}
    return {name: Method(sampler, None, n, sources) for n, name in names.items()}


METHODS: dict[str, Method] = {
    "random": Method("random", sources="independent.py", learns=False),
    "grid": Method("grid", sources="grid.py", learns=False),
    "Optuna random": Method(peer=lambda seed: RandomSampler(seed=seed), learns=False),
    "Optuna TPE": Method(peer=lambda seed: TPESampler(seed=seed)),
    "Optuna GP": Method(peer=lambda seed: GPSampler(seed=seed, warn_independent_sampling=False)),
    **_parallel("gp", "gp*.py"),
}


# --- one run ------------------------------------------------------------------------------------


def run(name: str, problem: Problem, made: Made, method: str, seed: int) -> Run:
    """One study from its start points to its last trial."""
    given = METHODS[method]
    asked = _optuna if given.peer else _ours
    losses, ended, seconds = asked(problem, made, given, seed)
    return Run(name, method, seed, given.version, losses, ended, seconds)


def start_points(searched: Space, seed: int) -> list[Params]:
    """Random settings, the same for all methods at a seed."""
    cube = Cube(searched)
    rows = anywhere(cube, cube.rows([{}])[0], START, np.random.default_rng([seed, 1]))
    return [cube.params(row) for row in rows]


def _ours(
    problem: Problem, made: Made, method: Method, seed: int
) -> tuple[list[float], list[float], float]:
    """Trials of random duration by workers that ask whenever they have nothing to do."""
    cube, entry = Cube(problem.space), SAMPLERS[method.sampler]
    options = {"shuffle": True, "points": points(problem.space)} if method.sampler == "grid" else {}
    sampler, memory = entry.make(cube, options), Memory(cube, TRIALS)
    first = start_points(problem.space, seed) if method.learns else []
    durations = np.random.default_rng([seed, 2]).uniform(0.5, 1.5, TRIALS)
    losses, ended, seconds = [0.0] * TRIALS, [0.0] * TRIALS, 0.0
    running: list[tuple[float, int]] = []
    now = 0.0
    for number in range(TRIALS):
        if len(running) == method.workers:
            now, last = heapq.heappop(running)
            memory.finish(last, losses[last])
        before = time.process_time()
        if number < len(first):
            suggestion = Suggestion(first[number])
        else:
            ask = Ask(number, entry.seed(seed, number))
            found = sampler.propose(memory.seen(), ask)
            if not found:
                return losses[:number], ended[:number], seconds
            suggestion = found[0]
        seconds += time.process_time() - before
        memory.start(suggestion)
        losses[number] = made.loss(suggestion.params)
        ended[number] = now + float(durations[number])
        heapq.heappush(running, (ended[number], number))
    return losses, ended, seconds


def _optuna(
    problem: Problem, made: Made, method: Method, seed: int
) -> tuple[list[float], list[float], float]:
    assert method.peer is not None
    study = optuna.create_study(sampler=method.peer(seed))
    for params in start_points(problem.space, seed) if method.learns else []:
        study.enqueue_trial(params)
    distributions = space.distributions(problem.space)
    losses, seconds = [], 0.0
    for _ in range(TRIALS):
        before = time.process_time()
        trial = study.ask()
        params: Params = {}
        for name, distribution in distributions.items():
            if space.active(problem.space, name, params):
                params[name] = _suggested(trial, name, distribution)
        asked = time.process_time()
        losses.append(made.loss(params))
        told = time.process_time()
        study.tell(trial, losses[-1])
        seconds += time.process_time() - told + asked - before
    return losses, [], seconds


def _suggested(trial: optuna.Trial, name: str, given: Any) -> Any:
    if isinstance(given, CategoricalDistribution):
        return trial.suggest_categorical(name, given.choices)
    if isinstance(given, IntDistribution):
        return trial.suggest_int(name, given.low, given.high, step=given.step, log=given.log)
    assert isinstance(given, FloatDistribution)
    return trial.suggest_float(name, given.low, given.high, step=given.step, log=given.log)


def points(searched: Space) -> dict[str, int]:
    """As many values of each number as keep the grid within the trials, but two at least."""
    sizes = {name: _size(given) for name, given in searched.items()}
    choices = int(np.prod([n for name, n in sizes.items() if isinstance(searched[name], Choice)]))
    found = {name: 2 for name, given in searched.items() if not isinstance(given, Choice)}
    while grow := [n for n in found if found[n] < sizes[n] and _fits(found, n, choices)]:
        found[min(grow, key=found.__getitem__)] += 1
    return found


def _fits(found: Mapping[str, int], name: str, choices: int) -> bool:
    return choices * int(np.prod([n + (key == name) for key, n in found.items()])) <= TRIALS


def _size(given: Any) -> int:
    if isinstance(given, Choice):
        return len(given.choices)
    return TRIALS if isinstance(given, FloatRange) else int(given.high - given.low) + 1


# --- all runs -----------------------------------------------------------------------------------


def known(file: Path) -> dict[tuple[str, str, int], Run]:
    """The runs in the file whose code is that of today."""
    found: dict[tuple[str, str, int], Run] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        each = Run(**json.loads(line))
        if each.method in METHODS and each.version == METHODS[each.method].version:
            found[each.problem, each.method, each.seed] = each
    return found


def runs(
    file: Path, problems: Iterable[str], methods: Sequence[str], seeds: Iterable[int]
) -> Iterator[Run]:
    """All of them, those that are not known yet made and kept; a seed of all problems first."""
    done = known(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    made = cache(lambda name: PROBLEMS[name].make())
    for seed, name, method in product(seeds, problems, methods):
        key = name, method, seed
        if key not in done:
            done[key] = run(name, PROBLEMS[name], made(name), method, seed)
            with file.open("a") as lines:
                lines.write(json.dumps(asdict(done[key])) + "\n")
        yield done[key]


def main() -> None:
    """Make what is not known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    seeds = range(QUICK_SEEDS if given.quick else SEEDS)
    for _ in runs(given.runs, given.problems.split(","), given.methods.split(","), seeds):
        pass


if __name__ == "__main__":
    main()
