"""The HTTP server as a process runs it: its socket, its start, its orderly end."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import uvicorn

from hpo_service import database, errors, schema
from hpo_service.app import create_app
from hpo_service.service import Service
from hpo_service.settings import Settings

SHUTDOWN_SECONDS = 8  # for requests in flight
LISTEN_BACKLOG = 2048


class Server(uvicorn.Server):
    """Uvicorn, which hands out no new work once it was asked to end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self._service.draining.set()
        super().handle_exit(sig, frame)


def make(settings: Settings, access_log: bool) -> Server:
    """A server ready to run; raises where the database cannot be used."""
    app = create_app(settings)
    check(app.state.service)
    config = uvicorn.Config(
        app,
        access_log=access_log,
        log_level="info" if access_log else "warning",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return Server(config, app.state.service)


def check(service: Service) -> None:
    """Open the database as the server will, whose own failure would be a traceback in a log."""
    with ExitStack() as stack:
        if service.database.sqlite:
            file = Path(str(service.database.url.database))
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(database.lock_file(file))
        schema.require_current(service.database)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; opened here so that a taken port is an error in one line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=LISTEN_BACKLOG)
    except OSError as error:
        raise errors.HpoError(
            f"Cannot listen on {host} port {port} ({os.strerror(error.errno or 0)}): "
            "choose another with --host or --port."
        ) from error
