"""A server of one's own, and workers that end with a study, to benchmark whole studies.

Everything lies in a temporary folder, also what the machine's kernels were measured to take.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo_service import protocol
from hpo_service.cli import server
from hpo_service.cli.processes import Processes, Stop, stop_signals
from hpo_service.cli.up import Team, environment
from hpo_service.client import Client
from hpo_service.settings import Settings

POLL_SECONDS = 0.05
LOG_CHARACTERS = 3000  # of a worker's log, shown where its study did not end


@dataclass(frozen=True)
class Spent:
    """What the workers of a study took, from the start of their processes to the end of them."""

    wall: float
    processor: float


class Service:
    """A running server, its client, and workers by the study."""

    def __init__(self, team: Team, client: Client, folder: Path, stop: Stop) -> None:
        self.client = client
        self._team, self._folder, self._stop = team, folder, stop

    def create(self, spec: Mapping[str, Any]) -> protocol.Study:
        """Create a study; no worker is at work yet."""
        return self.client.create_study(protocol.StudySpec.model_validate(spec))

    def work(self, *studies: str, workers: int = 1, pack: int = 1) -> Spent:
        """Run workers until the studies have finished; raises where one has not when they end.

        Several are all that the server has: its workers take any study.
        """
        begun, before = time.monotonic(), _processor_seconds()
        one = studies[0] if len(studies) == 1 else None
        with Processes(self._stop) as crew:
            for number in range(workers):
                with open(self._log(studies[0], number), "wb") as log:
                    crew.start(self._command(one, pack), self._environment(), log)
            for process in crew.running:
                while process.poll() is None and not self._stop.wait(POLL_SECONDS):
                    self._team.check()
        if self._stop:
            raise SystemExit(self._stop.exit_code)
        for study in studies:
            if (state := self.client.study(study).state) != "finished":
                said = self._log(studies[0], 0).read_text("utf-8", "replace")[-LOG_CHARACTERS:]
                raise RuntimeError(f"study {study} is {state}, its workers have ended:\n{said}")
        return Spent(time.monotonic() - begun, _processor_seconds() - before)

    def _log(self, study: str, number: int) -> Path:
        return self._folder / f"{study}-{number}.log"

    def _command(self, study: str | None, pack: int) -> list[str]:
        return server.command("workers", "--once", study=study, pack=pack, threads=1, device="cpu")

    def _environment(self) -> dict[str, str]:
        given = environment(self._team.settings)
        return given | {"HPO_URL": self._team.url, "HPO_CACHE_DIR": str(self._folder / "cache")}


@contextmanager
def running() -> Iterator[Service]:
    """A server on a free port with a SQLite file; nothing of it is left afterwards."""
    # One thread a worker, as it was asked for, also where a library would take all cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    with stop_signals() as stop, tempfile.TemporaryDirectory(prefix="hpo-bench-") as name:
        folder = Path(name)
        settings = Settings(
            data_dir=folder, database_url=None, host="127.0.0.1", port=0, token=None
        )
        with Team(settings, [], 0, stop, lambda _: None, logs=folder) as team:
            team.start()
            if stop:
                raise SystemExit(stop.exit_code)
            with team.client() as client:
                yield Service(team, client, folder, stop)


def _processor_seconds() -> float:
    """Of all processes that we started, with theirs, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
