"""Studies in memory, of our samplers and of Optuna's, and the file in which their losses lie.

At one seed all methods that learn begin with the same ten random points. Optuna's samplers are
asked through its own interface. A run that is known is not repeated, unless the code that
proposed it has changed.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler

import hpo_service
from benchmarks.memory import Memory
from benchmarks.problems import PROBLEMS, Made, Problem
from hpo_service import space
from hpo_service.cube import Cube
from hpo_service.protocol import Choice, FloatRange
from hpo_service.samplers import SAMPLERS, Ask, Suggestion
from hpo_service.samplers.independent import anywhere
from hpo_service.space import Params, Space

TRIALS, START = 100, 10
# How long a trial takes: parts of the mean duration.
SHORTEST, LONGEST = 0.5, 1.5


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
    found = {file for each in sources.split() for file in (root / "samplers").glob(each)}
    files = [root / "cube.py", *sorted(found)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _parallel(sampler: str, sources: str) -> dict[str, Method]:
    names = {1: sampler, 4: f"{sampler} x4", 16: f"{sampler} x16"}
    return {name: Method(sampler, None, n, sources) for n, name in names.items()}


METHODS: dict[str, Method] = {
    "random": Method("random", sources="independent.py", learns=False),
    "grid": Method("grid", sources="grid.py", learns=False),
    "Optuna TPE": Method(peer=lambda seed: TPESampler(seed=seed)),
    "Optuna GP": Method(peer=lambda seed: GPSampler(seed=seed, warn_independent_sampling=False)),
    **_parallel("auto", "auto.py gp*.py tpe*.py"),
    **_parallel("gp", "gp*.py"),
    **_parallel("tpe", "tpe*.py"),
}


# --- one run ------------------------------------------------------------------------------------


def run(name: str, problem: Problem, made: Made, method: str, seed: int) -> Run:
    """One study from its start points to its last trial."""
    given = METHODS[method]
    study = (_Optunas if given.peer else _Ours)(problem, made, given, seed)
    study.run()
    return Run(name, method, seed, given.version, study.losses, study.ended, study.seconds)


def start_points(searched: Space, seed: int) -> list[Params]:
    """Random settings, the same for all methods at a seed."""
    cube = Cube(searched)
    rows = anywhere(cube, cube.rows([{}])[0], START, np.random.default_rng([seed, 1]))
    return [cube.params(row) for row in rows]


class _Ours:
    """Trials of random duration by workers that ask whenever they have nothing to do."""

    def __init__(self, problem: Problem, made: Made, method: Method, seed: int) -> None:
        self.made, self.seed, self.workers = made, seed, method.workers
        self.entry, self.cube = SAMPLERS[method.sampler], Cube(problem.space)
        grid = {"shuffle": True, "points": points(problem.space)}
        self.sampler = self.entry.make(self.cube, grid if method.sampler == "grid" else {})
        self.memory = Memory(self.cube, TRIALS)
        self.first = start_points(problem.space, seed) if method.learns else []
        self.losses: list[float] = []
        self.ended: list[float] = []
        self.seconds = 0.0

    def run(self) -> None:
        durations = np.random.default_rng([self.seed, 2]).uniform(SHORTEST, LONGEST, TRIALS)
        running: list[tuple[float, int]] = []
        now = 0.0
        for number in range(TRIALS):
            if len(running) == self.workers:
                now, last = heapq.heappop(running)
                self.memory.finish(last, self.losses[last])
            suggestion = self._suggestion(number)
            if suggestion is None:
                break
            self.memory.start(suggestion)
            self.losses.append(self.made.loss(suggestion.params))
            self.ended.append(now + float(durations[number]))
            heapq.heappush(running, (self.ended[number], number))

    def _suggestion(self, number: int) -> Suggestion | None:
        if number < len(self.first):
            return Suggestion(self.first[number])
        before = time.process_time()
        found = self.sampler.propose(
            self.memory.seen(), Ask(number, self.entry.seed(self.seed, number))
        )
        self.seconds += time.process_time() - before
        return found[0] if found else None


class _Optunas:
    """One trial after the other."""

    def __init__(self, problem: Problem, made: Made, method: Method, seed: int) -> None:
        assert method.peer is not None
        self.space, self.made = problem.space, made
        self.study = optuna.create_study(sampler=method.peer(seed))
        for params in start_points(problem.space, seed) if method.learns else []:
            self.study.enqueue_trial(params)
        self.losses: list[float] = []
        self.ended: list[float] = []
        self.seconds = 0.0

    def run(self) -> None:
        distributions = space.distributions(self.space)
        for _ in range(TRIALS):
            before = time.process_time()
            trial = self.study.ask()
            params: Params = {}
            for name, distribution in distributions.items():
                if space.active(self.space, name, params):
                    params[name] = _suggested(trial, name, distribution)
            asked = time.process_time()
            self.losses.append(self.made.loss(params))
            told = time.process_time()
            self.study.tell(trial, self.losses[-1])
            self.seconds += time.process_time() - told + asked - before


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
