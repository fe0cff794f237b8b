"""Many clients on one server: heartbeats stay quick, and little sampling is done in vain.

Two cases, each with a server of its own:

- `heartbeat`: 64 clients ask one GP study for trials; how long does a heartbeat take meanwhile?
- `samples per trial`: 16 clients share one TPE study; how often was the sampler asked per trial?

usage: python -m benchmarks.contention [--quick] [--database-url URL]
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path

import httpx
import uvicorn

from benchmarks.lines import emit
from hpo_service import schema
from hpo_service.app import create_app, make_service
from hpo_service.settings import Settings

SPACE = {
    "hidden_layers": {"type": "int", "low": 1, "high": 6},
    "hidden_units": {"type": "int", "low": 16, "high": 512, "log": True},
    "activation": {"type": "categorical", "choices": ["relu", "tanh", "sigmoid", "swish"]},
    "dropout": {"type": "float", "low": 0.0, "high": 0.6},
    "learning_rate": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
    "batch_size": {"type": "categorical", "choices": [16, 32, 64, 128, 256]},
    "momentum": {"type": "float", "low": 0.0, "high": 0.99},
    "weight_decay": {"type": "float", "low": 1e-7, "high": 1e-2, "log": True},
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "rmsprop"]},
}


@contextmanager
def server(database_url: str | None) -> Iterator[tuple[str, Callable[[], int]]]:
    """A server on a free port: its address, and how often its samplers were asked so far."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), database_url=database_url)
        if database_url:
            schema.upgrade(make_service(settings).database)
        app = create_app(settings)
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run)
        thread.start()
        while not running.started:
            time.sleep(0.05)
        port = running.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}", lambda: app.state.service.searches.samples
        finally:
            running.should_exit = True
            thread.join()


def create(http: httpx.Client, name: str, sampler: str, trials: int) -> None:
    spec = {
        "name": name,
        "objective": {"kind": "external"},
        "search_space": SPACE,
        "sampler": {"name": sampler},
        "budget": {"trials": trials},
    }
    http.post("/v1/studies", json=spec).raise_for_status()


def work(url: str, study: str, end: float) -> None:
    """Lease and tell until the study has ended, or `end` of the monotonic clock."""
    lease_id = str(uuid.uuid4())
    with httpx.Client(base_url=url, timeout=60) as http:
        while time.monotonic() < end:
            body = {"worker": "bench", "lease_ids": [lease_id], "study": study}
            answer = http.post("/v1/leases", json=body | {"objectives": ["external"]})
            answer.raise_for_status()
            leases = answer.json()["leases"]
            if not leases:
                if http.get(f"/v1/studies/{study}").json()["state"] == "finished":
                    return
                time.sleep(answer.json()["retry_after"])
            for lease in leases:
                told = {"state": "complete", "values": [random.random()]}
                http.post(f"/v1/leases/{lease['lease_id']}/tell", json=told).raise_for_status()
                lease_id = str(uuid.uuid4())


def clients(url: str, study: str, number: int, end: float) -> None:
    threads = [threading.Thread(target=work, args=(url, study, end)) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def crowd(url: str, study: str, number: int, seconds: float) -> SpawnProcess:
    """The clients, in a process of their own: the server's has the server to itself."""
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=clients, args=(url, study, number, time.monotonic() + seconds))
    process.start()
    return process


def heartbeats(database_url: str | None, seconds: float) -> None:
    with server(database_url) as (url, _), httpx.Client(base_url=url, timeout=60) as http:
        name = f"gp-{uuid.uuid4().hex[:6]}"
        create(http, name, "gp", 1_000_000)
        asking = crowd(url, name, 64, seconds)
        took = []
        while asking.is_alive():
            begun = time.perf_counter()
            http.put("/v1/workers/pulse", json={"lease_ids": []}).raise_for_status()
            took.append(time.perf_counter() - begun)
            time.sleep(0.05)
        trials = http.get(f"/v1/studies/{name}").json()["n_trials"]
    case = f"longest heartbeat, 64 clients on a GP study ({trials} trials, {len(took)} beats)"
    emit("contention", case, "s", max(took), target="<= 1 s", met=max(took) <= 1)
    emit("contention", f"{case}: median", "s", statistics.median(took))


def samples(database_url: str | None, trials: int) -> None:
    with server(database_url) as (url, sampled), httpx.Client(base_url=url, timeout=60) as http:
        name = f"tpe-{uuid.uuid4().hex[:6]}"
        create(http, name, "tpe", trials)
        begun = time.perf_counter()
        crowd(url, name, 16, 600).join()
        seconds = time.perf_counter() - begun
        ended = http.get(f"/v1/studies/{name}").json()
        assert ended["n_trials"] == ended["counts"]["complete"] == trials, ended
        ratio = sampled() / trials
    case = f"samples per trial, 16 clients, TPE, {trials} trials"
    emit("contention", case, "samples", ratio, target="<= 1.2", met=ratio <= 1.2)
    emit("contention", f"{case}: trials per second", "1/s", trials / seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--database-url")
    options = parser.parse_args()
    heartbeats(options.database_url, 10 if options.quick else 60)
    samples(options.database_url, 100 if options.quick else 400)


if __name__ == "__main__":
    main()
