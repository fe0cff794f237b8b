"""Real processes: servers and workers that can be killed, on a port and data of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpo_service import errors
from hpo_service.client import Client

ROOT = Path(__file__).parents[2]
TTL = "3"  # seconds: short, so that a lost trial comes back soon
PATIENCE = 90.0  # seconds


class Fleet:
    """One server and any number of workers on one database."""

    def __init__(self, folder: Path, database_url: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
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

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
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
        time.sleep(0.1)


@pytest.fixture
def fleet(tmp_path: Path, database_url: str) -> Iterator[Fleet]:
    made = Fleet(tmp_path, database_url)
    yield made
    made.stop()
