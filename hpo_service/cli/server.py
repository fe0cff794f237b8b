"""`hpo serve` and `hpo worker`: one process each."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpo_service import errors
from hpo_service.cli.frame import DEFAULT_URL, Token, Url
from hpo_service.settings import Settings

if TYPE_CHECKING:
    from hpo_service.service import Service

SHUTDOWN_SECONDS = 8  # for requests in flight
LISTEN_BACKLOG = 2048

Host = Annotated[
    str | None, typer.Option(envvar="HPO_HOST", metavar="ADDRESS", help="Where to listen.")
]
Port = Annotated[
    int | None,
    typer.Option(
        envvar="HPO_PORT", min=0, max=65535, metavar="NUMBER", help="TCP port to listen on."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(envvar="HPO_DATA_DIR", metavar="FOLDER", help="Folder of database and files."),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="HPO_DATABASE_URL", metavar="URL", help="PostgreSQL, or another SQLite file."
    ),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Threads of a training process.")
]


def settings(**given: Any) -> Settings:
    """The settings of the environment, overruled by the options that were given."""
    return Settings(**{name: value for name, value in given.items() if value is not None})


def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log every request.")] = False,
) -> None:
    """Run the server.

    It listens on this machine alone; beyond that it asks for a token in HPO_TOKEN. Every setting
    can be given as an environment variable.
    """
    # Loaded here: the other commands need neither the web framework nor SQLAlchemy.
    import uvicorn

    from hpo_service.app import create_app

    chosen = settings(host=host, port=port, data_dir=data_dir, database_url=database_url)
    with listening(chosen.host, chosen.port) as listener:
        app = create_app(chosen)
        check(app.state.service)
        typer.echo(f"Serving on {address(listener)}, API docs on {address(listener)}/docs")
        config = uvicorn.Config(
            app,
            access_log=access_log,
            log_level="info" if access_log else "warning",
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listener])


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; opened here so that a taken port is an error in one line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=LISTEN_BACKLOG)
    except OSError as error:
        raise errors.HpoError(
            f"Cannot listen on {host} port {port} ({error.strerror}): "
            "choose another with --host or --port."
        ) from error


def address(listener: socket.socket) -> str:
    """Where a listening socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check(service: Service) -> None:
    """Open the database as the server will, whose own failure would be a traceback in a log."""
    from hpo_service import database, schema

    with ExitStack() as stack:
        if service.database.sqlite:
            file = Path(str(service.database.url.database))
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(database.lock_file(file))
        schema.require_current(service.database)


def worker(
    study: Annotated[str | None, typer.Option(help="Work for this study only.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    pack: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Trials to lease at a time.")
    ] = 1,
    once: Annotated[bool, typer.Option("--once", help="End when there is nothing to do.")] = False,
    cache_dir: Annotated[Path | None, typer.Option(help="Folder of data and spool.")] = None,
    name: Annotated[str | None, typer.Option(help="Name shown by the service.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Run a worker: it leases trials, trains them and reports.

    Ctrl-C lets the running epoch end and gives the trial back; a second one does so at once.
    """
    options = {
        "study": study,
        "device": device,
        "threads": threads,
        "pack": pack,
        "once": once,
        "cache-dir": cache_dir,
        "name": name,
    }
    environment = {**os.environ, **server_variables(url, token)}
    os.execve(sys.executable, command("workers", **options), environment)


def command(module: str, *words: str, **options: str | int | Path | None) -> list[str]:
    """`python -m module words --option value`; None and False leave an option out."""
    line = [sys.executable, "-m", module, *words]
    for option, value in options.items():
        if value is True:
            line.append(f"--{option}")
        elif value is not None and value is not False:
            line += [f"--{option}", str(value)]
    return line


def server_variables(url: str, token: str) -> dict[str, str]:
    """How a worker is told about the server: others can read a command line, and so a token."""
    return {"HPO_URL": url, **({"HPO_TOKEN": token} if token else {})}
