"""A study of 10,000 trials by 16 workers on one server: exact, and how long it takes.

The workers are threads of a process of their own: each leases a trial, tells its value at once and
leases the next, so that nothing but the search and its records is measured. When the study has
ended, it must have exactly so many trials, all complete, each number once. Beside it 16 processes
that ask and tell an Optuna study in a database of the same kind; there fewer trials, where its
speed is higher than it would be later.

usage: python -m benchmarks.many_trials [--quick] [--database-url URL] [--samplers random,tpe]
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import httpx
import optuna
from sqlalchemy import make_url

from benchmarks import contention, histories
from benchmarks.lines import emit
from hpo_service.constraints import cube_of

WORKERS = 16
TRIALS = 10_000
PEER_TRIALS = {"random": 1_000, "tpe": 1_000}
AT_ONCE = (1, 8)
SECONDS = 3_600.0
PEERS = {"random": "RandomSampler", "tpe": "TPESampler"}


@dataclass(frozen=True)
class Ran:
    """A study that has ended: its trials and how long it took."""

    trials: int
    seconds: float

    @property
    def rate(self) -> float:
        """Trials per second."""
        return self.trials / self.seconds


# --- ours -----------------------------------------------------------------------------------


def ours(database_url: str | None, sampler: str, trials: int, at_once: int) -> Ran:
    """A whole study, checked in the end."""
    name = f"{sampler}-{uuid.uuid4().hex[:6]}"
    with (
        contention.server(database_url) as (url, _),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        contention.create(http, name, sampler, trials)
        spawn = multiprocessing.get_context("spawn")
        crowd = spawn.Process(target=_clients, args=(url, name, at_once))
        crowd.start()
        begun = _first(http, name)
        crowd.join()
        seconds = time.perf_counter() - begun
        _check(http, name, trials)
    return Ran(trials, seconds)


def _first(http: httpx.Client, study: str) -> float:
    """When the first trial was there: before that, the clients' process starts."""
    while http.get(f"/v1/studies/{study}").json()["n_trials"] == 0:
        time.sleep(0.02)
    return time.perf_counter()


def _check(http: httpx.Client, study: str, trials: int) -> None:
    """Raise unless the study has ended with each number once, and all complete."""
    ended = http.get(f"/v1/studies/{study}").json()
    numbers: list[int] = []
    after: int | None = 0
    while after is not None:
        page = http.get(f"/v1/studies/{study}/trials", params={"limit": 500, "after": after}).json()
        numbers += [each["number"] for each in page["trials"] if each["state"] == "complete"]
        after = page["next"]
    exact = ended["state"] == "finished" and ended["n_trials"] == trials
    if not exact or sorted(numbers) != list(range(trials)):
        raise RuntimeError(f"{len(set(numbers))} of {trials} trials are complete: {ended}")


def _clients(url: str, study: str, at_once: int) -> None:
    threads = [threading.Thread(target=_work, args=(url, study, at_once)) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _work(url: str, study: str, at_once: int) -> None:
    """Lease and tell until the study has ended."""
    with httpx.Client(base_url=url, timeout=60) as http:
        ids = [str(uuid.uuid4()) for _ in range(at_once)]
        while True:
            asked = {"worker": "bench", "lease_ids": ids, "study": study}
            answer = http.post("/v1/leases", json=asked | {"objectives": ["external"]})
            leases = answer.raise_for_status().json()["leases"]
            if not leases:
                if http.get(f"/v1/studies/{study}").json()["state"] == "finished":
                    return
                time.sleep(answer.json()["retry_after"])
            for lease in leases:
                told = {"state": "complete", "values": [histories.value(lease["params"])]}
                http.post(f"/v1/leases/{lease['lease_id']}/tell", json=told).raise_for_status()
            used = {lease["lease_id"] for lease in leases}
            ids = [str(uuid.uuid4()) if each in used else each for each in ids]


# --- Optuna's -------------------------------------------------------------------------------


def peer(database_url: str | None, sampler: str, trials: int) -> Ran:
    """As many trials by as many processes on Optuna's own storage."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'optuna.db'}"
        if database_url:
            url = str(make_url(database_url).set(drivername="postgresql+psycopg"))
        name = f"{sampler}-{uuid.uuid4().hex[:6]}"
        storage = optuna.storages.RDBStorage(url)
        optuna.create_study(storage=storage, study_name=name)
        spawn = multiprocessing.get_context("spawn")
        ready = spawn.Barrier(WORKERS + 1)
        shares = [trials // WORKERS + (at < trials % WORKERS) for at in range(WORKERS)]
        crowd = [
            spawn.Process(target=_optimize, args=(url, name, sampler, at, share, ready))
            for at, share in enumerate(shares)
        ]
        for process in crowd:
            process.start()
        ready.wait()
        begun = time.perf_counter()
        for process in crowd:
            process.join()
        seconds = time.perf_counter() - begun
        found = optuna.load_study(storage=storage, study_name=name).get_trials(deepcopy=False)
        complete = sum(each.state == optuna.trial.TrialState.COMPLETE for each in found)
    return Ran(complete, seconds)


def _optimize(
    url: str, name: str, sampler: str, seed: int, trials: int, ready: threading.Barrier
) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = cube_of(histories.spec_of("random")).distributions
    made = getattr(optuna.samplers, PEERS[sampler])(seed=seed)
    study = optuna.load_study(storage=url, study_name=name, sampler=made)
    ready.wait()
    for _ in range(trials):
        trial = study.ask(distributions)
        study.tell(trial, histories.value(trial.params))


# --- the cases ------------------------------------------------------------------------------


def compare(database_url: str | None, sampler: str, trials: int, peer_trials: int) -> None:
    """Ours, one trial at a time and several, beside Optuna's."""
    kind = "PostgreSQL" if database_url else "SQLite"
    beside = peer(database_url, sampler, peer_trials)
    for at_once in AT_ONCE:
        ran = ours(database_url, sampler, trials, at_once)
        case = f"{sampler}, {trials:,} trials by {WORKERS} workers, {at_once} at once, {kind}"
        emit(
            "many_trials", case, "s", ran.seconds,
            target="exact: each number once, all complete", met=True,
            more={"database": kind},
        )  # fmt: skip
        emit(
            "many_trials", f"{case}: a trial", "ms", 1e3 / ran.rate,
            peer=1e3 / beside.rate,
            peer_name=f"Optuna's {PEERS[sampler]}, {WORKERS} processes, {beside.trials:,} trials",
            more={
                "trials_per_second": round(ran.rate, 2),
                "peer_trials_per_second": round(beside.rate, 2),
                "peer_seconds": round(beside.seconds, 2),
                "database": kind,
            },
        )  # fmt: skip


def main() -> None:
    """Run all cases on one database."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the trials")
    parser.add_argument("--database-url", help="a PostgreSQL database to use instead of SQLite")
    parser.add_argument("--samplers", default="random,tpe")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    random.seed(0)
    share = 20 if options.quick else 1
    for sampler in options.samplers.split(","):
        compare(options.database_url, sampler, TRIALS // share, PEER_TRIALS[sampler] // share)


if __name__ == "__main__":
    main()
