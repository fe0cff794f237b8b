"""Real processes: servers and workers that can be killed, on a port and data of their own.

Starting them costs more than what most tests then do, so tests that kill nobody share `running`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hpo_service import errors, protocol
from hpo_service.client import Client
from tests.conftest import fresh

ROOT = Path(__file__).parents[2]
TTL = "5"  # seconds: short, so that a lost trial comes back soon
PATIENCE = 240.0  # seconds: other things may run on this machine


class Fleet:
    """One server and any number of workers on one database."""

    def __init__(self, folder: Path, database_url: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder, self.database_url = folder, database_url
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = Client(self.url)
        self.environment = {
            **os.environ,
            "HPO_DATA_DIR": str(folder / "data"),
            "HPO_DATABASE_URL": database_url,
            "HPO_LEASE_TTL": TTL,
            "HPO_PORT": str(self.port),
            "HPO_URL": self.url,
            "HPO_CACHE_DIR": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        self.log = open(folder / "fleet.log", "ab")  # noqa: SIM115 (closed in stop)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, folder: Path = ROOT) -> subprocess.Popen[bytes]:
        """`python -m command` in a folder."""
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def serve(self) -> subprocess.Popen[bytes]:
        server = self.start("hpo_service.cli", "serve")
        wait_for(self.answers)
        return server

    def work(self, *options: str) -> subprocess.Popen[bytes]:
        return self.start("workers", "--threads", "1", *options)

    def answers(self) -> bool:
        try:
            self.client.studies()
        except errors.HpoError:
            return False
        return True

    def finished(self, study: str) -> bool:
        try:
            return self.client.study(study).state == "finished"
        except errors.Unreachable:
            return False

    def finish(self, spec: protocol.StudySpec) -> protocol.Study:
        """Create a study and see it finished by the workers there are."""
        self.client.create_study(spec)
        wait_for(lambda: self.finished(spec.name))
        return self.client.study(spec.name)

    def end(self, processes: Iterable[subprocess.Popen[bytes]]) -> None:
        """Kill processes and all they started."""
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop(self) -> None:
        self.end(self.processes)
        self.client.close()
        self.log.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process alone: its children have to notice by themselves."""
    process.kill()
    process.wait()


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until it holds; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.25)


@pytest.fixture
def fleet(tmp_path: Path, database_url: str) -> Iterator[Fleet]:
    """Nobody yet: for tests that start and kill."""
    made = Fleet(tmp_path, database_url)
    yield made
    made.stop()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def lasting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A server on each kind of database, and a worker that takes any study."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("lasting")
        made = Fleet(folder, stack.enter_context(fresh(request, request.param, folder)))
        stack.callback(made.stop)
        made.serve()
        made.work()
        yield made


@pytest.fixture
def running(lasting: Fleet) -> Iterator[Fleet]:
    """`lasting`, whose other processes end with the test."""
    before = len(lasting.processes)
    yield lasting
    lasting.end(lasting.processes[before:])
    del lasting.processes[before:]
