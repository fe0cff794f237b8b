"""`hpo serve` and `hpo worker`: one process each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo_service import errors, protocol
from hpo_service.cli.frame import DEFAULT_URL, Token, Url
from hpo_service.settings import Settings

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


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise typer.BadParameter("write auto, cpu, cuda or cuda:N")
    return text


Device = Annotated[
    str, typer.Option(parser=_device, metavar="DEVICE", help="auto, cpu, cuda or cuda:N.")
]


def _function(text: str) -> str:
    try:
        protocol.named_function(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return text


Objective = Annotated[
    str | None,
    typer.Option(
        parser=_function,
        metavar="MODULE:FUNCTION",
        help="Run this function of your own, for studies that name it, and nothing else.",
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Threads of a training process.")
]
Pack = Annotated[
    int,
    typer.Option(min=1, max=64, metavar="N", help="Trials of one study to train together."),
]
Refill = Annotated[
    bool,
    typer.Option(
        help="Lease anew when some of a pack's trials have ended; without it they are told "
        "together and in order, for exact repetition."
    ),
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
    from hpo_service.cli import http

    chosen = settings(host=host, port=port, data_dir=data_dir, database_url=database_url)
    with http.listening(chosen.host, chosen.port) as listener:
        running = http.make(chosen, access_log)
        url = address(chosen.host, listener.getsockname()[1])
        typer.echo(f"Serving on {url}, API docs on {url}/docs")
        running.run(sockets=[listener])


def address(host: str, port: int) -> str:
    """Where a server that listens there is reached from this machine."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def worker(
    study: Annotated[str | None, typer.Option(help="Work for this study only.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    pack: Pack = 1,
    refill: Refill = True,
    alike: Annotated[
        int,
        typer.Option(min=1, max=64, metavar="N", help="So many of a pack are to have one shape."),
    ] = 1,
    objective: Objective = None,
    once: Annotated[bool, typer.Option("--once", help="End when there is nothing to do.")] = False,
    cache_dir: Annotated[Path | None, typer.Option(help="Folder of data and spool.")] = None,
    name: Annotated[str | None, typer.Option(help="Name shown by the service.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Run a worker: it leases trials, trains them and reports.

    Ctrl-C lets the running epoch end and gives the trial back; a second one does so at once.
    """
    options: dict[str, str | int | Path | None] = {
        "study": study,
        **training(device, threads, pack, refill, objective),
        "alike": alike,
        "once": once,
        "cache-dir": cache_dir,
        "name": name,
    }
    # The token goes this way and not as an option, since others can read command lines.
    environment = {**os.environ, "HPO_URL": url, "HPO_TOKEN": token}
    os.execve(sys.executable, command("workers", **options), environment)


def training(
    device: str, threads: int | None, pack: int, refill: bool, objective: str | None = None
) -> dict[str, str | int | None]:
    """The options of a worker that say what it runs and how."""
    if objective is not None and pack > 1:
        raise typer.BadParameter(
            "trials of your own function run one by one: start more workers", param_hint="--pack"
        )
    return {
        "device": device,
        "threads": threads,
        "pack": pack,
        "no-refill": not refill,
        "objective": objective,
    }


def command(module: str, *words: str, **options: str | int | Path | None) -> list[str]:
    """`python -P -m module words --option value`; None and False leave an option out.

    -P: a file of the current folder that has the name of one of our modules is not taken for it.
    """
    line = [sys.executable, "-P", "-m", module, *words]
    for option, value in options.items():
        if value is True:
            line.append(f"--{option}")
        elif value is not None and value is not False:
            line += [f"--{option}", str(value)]
    return line


def run_worker(module: str, *words: str) -> None:
    """Run a module that needs PyTorch in a process of its own; raises what it says went wrong."""
    line = command(module, *words)
    run = subprocess.run(line, capture_output=True, text=True, check=False)
    if run.returncode:
        said = run.stderr.strip().splitlines() or [f"it ended with {run.returncode}"]
        raise errors.HpoError(f"The model cannot be used: {said[-1]}")
