"""A study of 10,000 trials by 16 workers on one server: exact, and how long it takes.

The workers are threads of a process of their own: each leases a trial, tells its value at once and
leases the next, so that nothing but the search and its records is measured. When the study has
ended, it must have exactly so many trials, all complete, each number once.

Beside it 16 workers that ask and tell an Optuna study in a database of the same kind: threads of
one process on SQLite, where processes wait longer for each other, processes on PostgreSQL. They do
fewer trials, where Optuna is faster than it would be later.

usage: python -m benchmarks.many_trials [--quick] [--database-url URL] [--samplers random,tpe]
                                        [--at-once 1,8]
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import optuna
from sqlalchemy import create_engine, make_url, text

from benchmarks import contention, histories
from benchmarks.lines import emit
from hpo_service.constraints import cube_of

WORKERS = 16
TRIALS = 10_000
PEER_TRIALS = 240
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
        ids, idle = [str(uuid.uuid4()) for _ in range(at_once)], False
        while True:
            asked = {"worker": "bench", "lease_ids": ids, "study": study}
            answer = http.post("/v1/leases", json=asked | {"objectives": ["external"]})
            leases = answer.raise_for_status().json()["leases"]
            if not leases:
                # Often it was only that others were faster.
                if idle and http.get(f"/v1/studies/{study}").json()["state"] == "finished":
                    return
                time.sleep(answer.json()["retry_after"])
            idle = not leases
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
            url = _beside_ours(database_url)
        name = f"{sampler}-{uuid.uuid4().hex[:6]}"
        storage = _storage(url)
        optuna.create_study(storage=storage, study_name=name)
        spawn = multiprocessing.get_context("spawn")
        ready = spawn.Barrier(WORKERS + 1) if database_url else threading.Barrier(WORKERS + 1)
        worker = spawn.Process if database_url else threading.Thread
        given = [(url, name, sampler, at, trials // WORKERS, ready) for at in range(WORKERS)]
        crowd = [worker(target=_optimize, args=each) for each in given]
        for each in crowd:
            each.start()
        ready.wait()
        begun = time.perf_counter()
        for each in crowd:
            each.join()
        seconds = time.perf_counter() - begun
        found = optuna.load_study(storage=storage, study_name=name).get_trials(deepcopy=False)
        complete = sum(each.state == optuna.trial.TrialState.COMPLETE for each in found)
    return Ran(complete, seconds)


def _beside_ours(database_url: str) -> str:
    """The same database, another schema: the tables have the same names."""
    url = make_url(database_url).set(drivername="postgresql+psycopg")
    with create_engine(url).begin() as connection:
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS optuna"))
    there = url.update_query_dict({"options": "-csearch_path=optuna"})
    return there.render_as_string(hide_password=False)


@cache
def _storage(url: str) -> optuna.storages.RDBStorage:
    """One of a process. On SQLite workers wait for each other, where by default some give up."""
    patient = {"connect_args": {"timeout": 600}} if url.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=patient)


def _optimize(url: str, name: str, sampler: str, seed: int, trials: int, ready: Any) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = cube_of(histories.spec_of("random")).distributions
    made = getattr(optuna.samplers, PEERS[sampler])(seed=seed)
    study = optuna.load_study(storage=_storage(url), study_name=name, sampler=made)
    ready.wait()
    for _ in range(trials):
        trial = study.ask(distributions)
        study.tell(trial, histories.value(trial.params))


# --- the cases ------------------------------------------------------------------------------


def compare(database_url: str | None, sampler: str, trials: int, at_once: int, beside: Ran) -> None:
    """Ours, leasing so many trials at once, beside Optuna's."""
    kind = "PostgreSQL" if database_url else "SQLite"
    ran = ours(database_url, sampler, trials, at_once)
    case = f"{sampler}, {trials:,} trials by {WORKERS} workers, {at_once} at once, {kind}"
    emit(
        "many_trials", case, "s", ran.seconds,
        target="exact: each number once, all complete", met=True,
    )  # fmt: skip
    emit(
        "many_trials", f"{case}: a trial", "ms", 1e3 / ran.rate,
        peer=1e3 / beside.rate,
        peer_name=f"Optuna's {PEERS[sampler]}, {WORKERS} workers, {beside.trials:,} trials",
        more={
            "trials_per_second": round(ran.rate, 2),
            "peer_trials_per_second": round(beside.rate, 2),
            "peer_seconds": round(beside.seconds, 2),
        },
    )  # fmt: skip


def main() -> None:
    """Run all cases on one database."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the trials")
    parser.add_argument("--database-url", help="a PostgreSQL database to use instead of SQLite")
    parser.add_argument("--samplers", default="random,tpe")
    parser.add_argument("--at-once", default="1", help="how many trials a worker leases together")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials, peers = (500, 48) if options.quick else (TRIALS, PEER_TRIALS)
    for sampler in options.samplers.split(","):
        beside = peer(options.database_url, sampler, peers)
        for at_once in options.at_once.split(","):
            compare(options.database_url, sampler, trials, int(at_once), beside)


if __name__ == "__main__":
    main()
