"""What a proposal costs inside the server, after any number of finished trials.

- `proposal`: the next trial of a study with n finished ones, and 16 at once, in a SQLite file; one
  more trial has finished since the proposal before. Optuna's samplers beside it, in memory, where
  they have no database to read.
- `opening`: the first proposal for a study of 100,000 trials after a restart, and the memory that
  the server then holds for it.
- `lease`: how long a trial of a random study takes to lease while clients keep a GP study sampling.

usage: python -m benchmarks.suggest [--quick] [--samplers random,grid]
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import httpx
import numpy as np
import optuna

from benchmarks import contention, histories
from benchmarks.lines import emit
from hpo_service.constraints import cube_of
from hpo_service.database import Database
from hpo_service.suggest import Proposal, Search, Searches
from hpo_service.tables import Study, Trial

REPEATS = 20
BATCH = 16
# Optuna's samplers behind our registry slow down with history as Optuna does.
LIMITED = {"cma_es": 1_000, "nsga2": 1_000}
SAMPLERS = ("random", "sobol", "grid", "tpe", "gp", "cma_es", "nsga2")
# Milliseconds for one trial, by the number of finished ones.
TARGETS: dict[str, dict[int, float]] = {
    "random": {100: 0.2, 1_000: 0.2, 10_000: 0.2, 100_000: 0.2},
    "grid": {100: 0.2, 1_000: 0.2, 10_000: 0.2, 100_000: 0.2},
    "tpe": {1_000: 5, 10_000: 5, 100_000: 5},
    "gp": {100: 60, 1_000: 300, 10_000: 300},
}
PEERS: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
    "random": lambda: optuna.samplers.RandomSampler(seed=0),
    "tpe": lambda: optuna.samplers.TPESampler(seed=0),
    "gp": lambda: optuna.samplers.GPSampler(seed=0),
}
# Beyond these the peer takes minutes; at most so many repeats where it takes seconds.
PEER_LIMITS = {"gp": 500}
PEER_REPEATS = {"gp": 3}
SLOW_PEER_TRIALS, SLOW_PEER_REPEATS = 10_000, 3

OPENING_TRIALS = 100_000
OPENING_SECONDS, OPENING_MB = 5.0, 300.0
GP_CLIENTS = 4


@dataclass
class Times:
    """Seconds of each repeat: on the clock, and of this thread on the processor."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def measure(self, act: Callable[[], object]) -> None:
        """Run it once."""
        processor, wall = time.thread_time(), time.perf_counter()
        act()
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.thread_time() - processor)

    @property
    def median(self) -> float:
        """Milliseconds on the clock."""
        return 1e3 * statistics.median(self.wall)

    @property
    def median_processor(self) -> float:
        """Milliseconds on the processor."""
        return 1e3 * statistics.median(self.processor)


# --- ours -----------------------------------------------------------------------------------


class Asked:
    """A study whose next trials are asked for as the server asks for them."""

    def __init__(self, database: Database, study_id: int) -> None:
        self.database, self.study_id = database, study_id
        self.searches = Searches()

    def propose(self, count: int, times: Times | None = None) -> list[Proposal]:
        """The next trials; `times` gets what the proposal itself took."""
        found: list[Proposal] = []
        with self.searches.turn(self.study_id) as search, self.database.read() as session:
            assert isinstance(search, Search)
            study = session.get_one(Study, self.study_id)
            (times or Times()).measure(lambda: found.extend(search.propose(session, study, count)))
        return found

    def finish(self, proposal: Proposal) -> None:
        """Store the proposal as a trial that has completed."""
        with self.database.write() as (session, now):
            study = session.get_one(Study, self.study_id)
            session.add(
                Trial(
                    study_id=study.id,
                    kind="search",
                    number=study.n_trials,
                    state="complete",
                    params=proposal.params,
                    distributions=proposal.distributions,
                    values=[histories.value(proposal.params)],
                    system_attrs=proposal.system_attrs,
                    created_at=now,
                    started_at=now,
                    ended_at=now,
                )
            )
            study.n_trials += 1


def timed(asked: Asked, count: int) -> Times:
    """Proposals, each after another trial has finished."""
    times = Times()
    latest = asked.propose(count)
    for _ in range(REPEATS):
        asked.finish(latest[0])
        latest = asked.propose(count, times)
    return times


# --- Optuna's -------------------------------------------------------------------------------


def peer(sampler: str, trials: int) -> Times | None:
    """Optuna's sampler of that name in a study in memory; None where there is none to measure."""
    if sampler not in PEERS or trials > PEER_LIMITS.get(sampler, trials):
        return None
    distributions = cube_of(histories.spec_of(sampler)).distributions
    study = optuna.create_study(sampler=PEERS[sampler]())
    study.add_trials(
        optuna.trial.create_trial(
            params=dict(params), distributions=distributions, value=histories.value(params)
        )
        for params in histories.settings(sampler, trials)
    )
    repeats = PEER_REPEATS.get(sampler, REPEATS)
    if trials > SLOW_PEER_TRIALS and sampler != "random":
        repeats = SLOW_PEER_REPEATS
    times = Times()
    for _ in range(repeats):
        trial: list[optuna.Trial] = []
        times.measure(lambda: trial.append(study.ask(distributions)))  # noqa: B023 (run at once)
        study.tell(trial[0], histories.value(trial[0].params))
    return times


# --- the cases ------------------------------------------------------------------------------


def proposals(sampler: str, trials: int) -> None:
    """One trial, and a batch, after so many."""
    if sampler == "grid":
        trials = min(trials, histories.GRID_POINTS - 2 * REPEATS * BATCH)
    with histories.sqlite() as database:
        asked = Asked(database, histories.study(database, sampler, trials))
        one, batch = timed(asked, 1), timed(asked, BATCH)
    beside = peer(sampler, trials)
    target = TARGETS.get(sampler, {}).get(trials)
    emit(
        "suggest", f"{sampler}: a proposal at {trials:,} trials", "ms", one.median,
        peer=beside.median if beside else None,
        peer_name=f"Optuna's {type(PEERS[sampler]()).__name__} in memory" if beside else None,
        target=None if target is None else f"<= {target} ms",
        met=None if target is None else one.median <= target,
        more={
            "processor": round(one.median_processor, 4),
            "peer_processor": round(beside.median_processor, 4) if beside else None,
            "peer_repeats": len(beside.wall) if beside else None,
        },
    )  # fmt: skip
    limit = {"tpe": 20.0, "gp": 5 * one.median}.get(sampler)
    emit(
        "suggest", f"{sampler}: {BATCH} proposals at once at {trials:,} trials", "ms", batch.median,
        target=None if limit is None else f"<= {limit:.3g} ms",
        met=None if limit is None else batch.median <= limit,
        more={
            "processor": round(batch.median_processor, 4),
            "times_one": round(batch.median / one.median, 2),
        },
    )  # fmt: skip


@dataclass(frozen=True)
class Opening:
    """What the first proposal of a study took: seconds, and megabytes that stay."""

    seconds: float
    processor: float
    resident: float
    highest: float


def opening(sampler: str, trials: int) -> None:
    """A study that the server does not know yet, in a process of its own."""
    trials = min(trials, histories.GRID_POINTS - 1) if sampler == "grid" else trials
    with histories.sqlite() as database:
        small = histories.study(database, sampler, 100)
        large = histories.study(database, sampler, trials)
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            found = process.submit(_open, str(database.url), small, large).result()
    case = f"{sampler}: the first proposal after a restart at {trials:,} trials"
    emit(
        "suggest", case, "s", found.seconds,
        target=f"<= {OPENING_SECONDS:g} s", met=found.seconds <= OPENING_SECONDS,
        more={"processor": round(found.processor, 3)},
    )  # fmt: skip
    emit(
        "suggest", f"{case}: memory", "MB", found.resident,
        target=f"<= {OPENING_MB:g} MB", met=found.resident <= OPENING_MB,
        more={"highest": round(found.highest, 1)},
    )  # fmt: skip


def _open(url: str, small: int, large: int) -> Opening:
    # Once before: what every study needs, whatever its length, is not counted.
    database = Database(url)
    Asked(database, small).propose(1)
    gc.collect()
    before = _resident()
    Path("/proc/self/clear_refs").write_text("5")  # the highest is that from here on
    times = Times()
    asked = Asked(database, large)
    times.measure(lambda: asked.propose(1))
    gc.collect()
    after, highest = _resident(), _highest()
    return Opening(times.wall[0], times.processor[0], after - before, highest - before)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _highest() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3


def leasing(seconds: float) -> None:
    """Leases of a random study on a server that does nothing else, and beside a GP study."""
    alone, _ = _leases(seconds, 0)
    beside, trials = _leases(seconds, GP_CLIENTS)
    case = f"a lease of a random study, {GP_CLIENTS} clients on a GP study ({trials} trials)"
    for name, at in (("p50", 50), ("p99", 99)):
        emit(
            "suggest", f"{case}: {name}", "ms", 1e3 * float(np.percentile(beside, at)),
            peer=1e3 * float(np.percentile(alone, at)), peer_name="without the GP study",
            more={"leases": len(beside)},
        )  # fmt: skip


def _leases(seconds: float, clients: int) -> tuple[list[float], int]:
    """The seconds that each lease took, and how many trials the GP study has in the end."""
    with contention.server(None) as (url, _), httpx.Client(base_url=url, timeout=60) as http:
        for name in ("random", "gp"):
            contention.create(http, name, name, 1_000_000)
        crowd = contention.crowd(url, "gp", clients, seconds + 3)
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            found = process.submit(_lease_on, url, seconds).result()
        crowd.join()
        return found, int(http.get("/v1/studies/gp").json()["n_trials"])


def _lease_on(url: str, seconds: float) -> list[float]:
    found = []
    with httpx.Client(base_url=url, timeout=60) as http:
        time.sleep(3)  # the others have begun
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            lease_id = str(uuid.uuid4())
            body = {"worker": "bench", "lease_ids": [lease_id], "study": "random"}
            begun = time.perf_counter()
            answer = http.post("/v1/leases", json=body | {"objectives": ["external"]})
            found.append(time.perf_counter() - begun)
            assert answer.raise_for_status().json()["leases"]
            told = {"state": "complete", "values": [0.5]}
            http.post(f"/v1/leases/{lease_id}/tell", json=told).raise_for_status()
    return found


def cases(samplers: list[str], most: int) -> Iterator[tuple[str, int]]:
    """Sampler and number of finished trials."""
    for sampler in samplers:
        for trials in (100, 1_000, 10_000, 100_000):
            if trials <= min(most, LIMITED.get(sampler, most)):
                yield sampler, trials


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,000 trials at most, short runs")
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    samplers = options.samplers.split(",")
    for sampler, trials in cases(samplers, 1_000 if options.quick else 100_000):
        proposals(sampler, trials)
    for sampler in (each for each in samplers if each in ("grid", "tpe", "gp")):
        opening(sampler, 10_000 if options.quick else OPENING_TRIALS)
    leasing(5 if options.quick else 30)


if __name__ == "__main__":
    main()
