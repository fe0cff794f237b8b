"""`hpo up`: a server and its workers, started and ended together."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Annotated, Self

import typer

from hpo_service import errors
from hpo_service.cli import server
from hpo_service.cli.frame import connect
from hpo_service.cli.processes import Processes, Stop, stop_signals
from hpo_service.client import Client
from hpo_service.settings import Settings

START_SECONDS = 60.0  # within which a server answers
CHECK_SECONDS = 0.2
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds until a worker that ended starts again
STEADY_SECONDS = 60.0  # a worker that lived this long starts again after FIRST_WAIT


def up(
    workers: Annotated[
        int, typer.Option("--workers", "-n", min=0, metavar="N", help="How many.")
    ] = 2,
    host: server.Host = None,
    port: server.Port = None,
    data_dir: server.DataDir = None,
    database_url: server.DatabaseUrl = None,
    device: server.Device = "auto",
    threads: server.Threads = None,
    pack: server.Pack = 1,
    refill: server.Refill = True,
    objective: server.Objective = None,
) -> None:
    """Run a server and workers in one command.

    A worker that ends is started again. Ctrl-C ends all of them.
    """
    settings = server.settings(host=host, port=port, data_dir=data_dir, database_url=database_url)
    options = server.command("workers", **server.training(device, threads, pack, refill, objective))
    with stop_signals() as stop, Team(settings, options, workers, stop, typer.echo) as team:
        team.start()
        typer.echo(f"Serving on {team.url} with {workers} workers; Ctrl-C ends all.")
        while not stop.wait(CHECK_SECONDS):
            team.check()
    raise typer.Exit(stop.exit_code)


@dataclass
class Place:
    """Where one worker runs, and when the next one does after it has ended."""

    number: int
    process: Popen[bytes]
    started: float
    wait: float = FIRST_WAIT
    due: float | None = None


class Team:
    """A server and its workers: workers are replaced, the server's end is the end of all.

    With `logs` their output goes into files of that folder, else where our own goes.
    """

    def __init__(
        self,
        settings: Settings,
        worker: list[str],
        workers: int,
        stop: Stop,
        say: Callable[[str], object],
        logs: Path | None = None,
    ) -> None:
        port = settings.port or free_port()
        self.settings = settings.model_copy(update={"port": port})
        self.worker, self.workers = worker, workers
        self.stop, self.say, self.logs = stop, say, logs
        self.url = server.address(settings.host, port)
        self.places: list[Place] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # Workers end first: they give their leases back to a server that still answers.
        self._servers = self._stack.enter_context(Processes(self.stop))
        self._crew = self._stack.enter_context(Processes(self.stop))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def client(self) -> Client:
        """A client of this server."""
        return connect(self.url, self.settings.token_value)

    def start(self) -> None:
        """Start the server, wait until it answers, then start the workers."""
        line = server.command("hpo_service.cli", "serve")
        self.server = self._run(self._servers, line, environment(self.settings), "server")
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while not self.stop and not client.healthz():
                self._server_lives()
                if time.monotonic() > deadline:
                    raise errors.Unavailable(f"The server did not start in {START_SECONDS:.0f} s.")
                self.stop.wait(CHECK_SECONDS)
        if not self.stop:
            for number in range(1, self.workers + 1):
                self.places.append(Place(number, self._start_worker(number), time.monotonic()))

    def check(self) -> None:
        """Replace workers that ended; raises where the server did."""
        self._server_lives()
        for place in self.places:
            self._check_worker(place)

    def _check_worker(self, place: Place) -> None:
        now = time.monotonic()
        if place.due is None and place.process.poll() is not None:
            if now - place.started > STEADY_SECONDS:
                place.wait = FIRST_WAIT
            place.due = now + place.wait
            code = place.process.returncode
            self.say(f"Worker {place.number} ended ({code}), next start in {place.wait:.0f} s.")
            place.wait = min(2 * place.wait, LONGEST_WAIT)
        elif place.due is not None and now >= place.due:
            place.process, place.started, place.due = self._start_worker(place.number), now, None

    def _server_lives(self) -> None:
        code = self.server.poll()
        if code is not None and not self.stop:
            log = f" Its log: {self.logs / 'server.log'}." if self.logs else ""
            raise errors.HpoError(f"The server ended (exit code {code}), so all ended.{log}")

    def _start_worker(self, number: int) -> Popen[bytes]:
        given = {**environment(self.settings), "HPO_URL": self.url}
        return self._run(self._crew, self.worker, given, f"worker-{number}")

    def _run(
        self, group: Processes, line: list[str], given: dict[str, str], name: str
    ) -> Popen[bytes]:
        if self.logs is None:
            return group.start(line, given)
        with open(self.logs / f"{name}.log", "ab") as log:
            return group.start(line, given, log)


def environment(settings: Settings) -> dict[str, str]:
    """Our environment with these settings, and no others, in it.

    The token goes this way and not as an option, since others can read command lines.
    """
    given = settings.model_dump(exclude={"token"}, exclude_none=True)
    if settings.token_value:
        given["token"] = settings.token_value
    names = {f"HPO_{name.upper()}" for name in Settings.model_fields}
    ours = {name: value for name, value in os.environ.items() if name not in names}
    return ours | {f"HPO_{name.upper()}": str(value) for name, value in given.items()}


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
