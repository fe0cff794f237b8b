"""A server in process, on each database, and callers that reach a state in one line.

For workers also a fake server, and ways to run them against it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from hpo_service.app import create_app
from hpo_service.client import Client
from hpo_service.database import Database
from hpo_service.settings import Settings
from tests.conftest import Clock
from tests.fake_server import FakeServer
from workers import backoff
from workers.agent import Agent
from workers.options import Options

TTL = 60.0
ROOT = Path(__file__).parents[2]
OBJECTIVE = "tests.objectives:run"
Work = Callable[..., int]


class Api:
    """The REST API as a caller sees it, with the steps that tests take again and again."""

    def __init__(self, http: TestClient, clock: Clock) -> None:
        self.http, self.clock = http, clock
        self.service = http.app.state.service  # type: ignore[attr-defined]

    def get(self, path: str, **query: Any) -> Any:
        return ok(self.http.get(f"/v1{path}", params=query))

    def post(self, path: str, body: Any = None) -> Any:
        return ok(self.http.post(f"/v1{path}", json=body))

    def put(self, path: str, body: Any) -> Any:
        return ok(self.http.put(f"/v1{path}", json=body))

    def patch(self, path: str, body: Any) -> Any:
        return ok(self.http.patch(f"/v1{path}", json=body))

    def external(self, name: str = "sphere", trials: int = 10, **more: Any) -> Any:
        """An external study over one float."""
        spec = {
            "name": name,
            "objective": {"kind": "external"},
            "search_space": {"x": {"type": "float", "low": -5, "high": 5}},
            "sampler": {"name": "random"},
            "budget": {"trials": trials},
        }
        return self.post("/studies", spec | more)

    def ask(self, *lease_ids: str, study: str | None = "sphere", worker: str = "w") -> list[Any]:
        """The answer to a lease request under these ids, or under a new one."""
        ids = list(lease_ids) or [new_id()]
        body = {"worker": worker, "lease_ids": ids, "study": study, "objectives": ["external"]}
        return list(self.post("/leases", body)["leases"])

    def leased(self, study: str = "sphere") -> Any:
        """One trial, leased under a new id."""
        (lease,) = self.ask(study=study)
        return lease

    def report(self, lease: Any, step: int, *values: float | None) -> Any:
        point = {"lease_id": lease["lease_id"], "step": step, "values": list(values)}
        return self.post("/reports", {"reports": [point]})["decisions"][lease["lease_id"]]

    def tell(self, lease: Any, *values: float, **more: Any) -> Any:
        body = {"state": "complete", "values": list(values) or None} | more
        return self.post(f"/leases/{lease['lease_id']}/tell", body)

    def trial(self, number: int, study: str = "sphere") -> Any:
        return self.get(f"/studies/{study}/trials/{number}")

    def fails(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and code of an answer that is an error."""
        answer = self.http.request(method, f"/v1{path}", json=body)
        return answer.status_code, answer.json()["error"]["code"]


def ok(response: Any) -> Any:
    assert response.status_code < 300, response.text
    return response.json() if response.content else None


def new_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def api(database: Database, clock: Clock, tmp_path: Path) -> Iterator[Api]:
    """A running server on each database, on a clock that moves only when told to."""
    settings = Settings(data_dir=tmp_path / "data", lease_ttl=TTL)
    with TestClient(create_app(settings, database), raise_server_exceptions=True) as http:
        api = Api(http, clock)
        api.service.pulse.clear(api.service.pulse.freeze)
        yield api


# --- workers against a fake server ----------------------------------------------------------


@pytest.fixture
def server() -> Iterator[FakeServer]:
    made = FakeServer()
    yield made
    made.close()


@pytest.fixture
def work(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Run one worker until there is nothing left; returns its exit code."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(backoff, "MOST_SECONDS", 0.2)

    def run(**options: Any) -> int:
        given: dict[str, Any] = {
            "name": "w",
            "once": True,
            "objective": OBJECTIVE,
            "device": "cpu",
        } | options
        with Client(server.url) as client:
            return Agent(client, Options(cache=tmp_path, **given)).run()

    return run


@pytest.fixture
def start(server: FakeServer, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a worker process."""
    started = []

    def begin(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "workers", "--run", OBJECTIVE, *options]
        process = subprocess.Popen(
            command,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "HPO_URL": server.url,
                "HPO_TOKEN": "s3cret-token",
                "HPO_CACHE_DIR": str(tmp_path),
            },
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with process:
            process.kill()


def child_of(process: subprocess.Popen[str]) -> int:
    """The training process of a worker."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return int(children.split()[0])


def spools(tmp_path: Path) -> list[Path]:
    """All that a worker has left for the next one."""
    return [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
