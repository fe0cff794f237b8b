"""Where the tests find a PostgreSQL: a server that is named, or a cluster of their own.

`HPO_TEST_POSTGRES_URL` names a server whose user may create databases. Without it a continuous
integration run (`CI=true`) uses 127.0.0.1:5432; elsewhere a cluster is made in a temporary folder
where `initdb` is found.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, exc, make_url, text

HOW_TO_ENABLE = (
    "no PostgreSQL: set HPO_TEST_POSTGRES_URL=postgresql://user@host/database, "
    "or install PostgreSQL so that `initdb` is found"
)
LOCAL_URLS = tuple(f"postgresql://{user}@127.0.0.1:5432/postgres" for user in ("postgres", "root"))
INITDB_PLACES = "/usr/lib/postgresql/*/bin/initdb"
START_SECONDS = 30.0
SERVER_OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class NoPostgres(Exception):
    """There is none to be had; the message says how to enable it."""


def in_ci() -> bool:
    """Whether a run that skips PostgreSQL counts as failed."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


@contextmanager
def server() -> Iterator[str]:
    """The URL of a running server; a cluster of our own is gone afterwards."""
    url = named_server()
    if url:
        yield url
        return
    with throw_away_cluster() as url:
        yield url


def named_server() -> str | None:
    """`HPO_TEST_POSTGRES_URL`, else in CI a local server that answers."""
    url = os.environ.get("HPO_TEST_POSTGRES_URL")
    if url:
        return url
    return next((url for url in LOCAL_URLS if answers(url)), None) if in_ci() else None


def answers(url: str) -> bool:
    """Whether a server takes a connection under this URL."""
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"), connect_args={"connect_timeout": 3}
    )
    try:
        with engine.connect():
            return True
    except exc.OperationalError:
        return False
    finally:
        engine.dispose()


@contextmanager
def throw_away_cluster() -> Iterator[str]:
    """A cluster in a temporary folder, on a free port, safe from nothing but fast."""
    initdb = find_initdb()
    if initdb is None:
        raise NoPostgres(HOW_TO_ENABLE)
    owner = unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="hpo-postgres-"))
    if owner:
        shutil.chown(folder, owner)
    try:
        make = [str(initdb), "-D", str(folder / "data"), "-A", "trust", "-U", "postgres", "-N"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, user=owner)
        with running_server(initdb.with_name("postgres"), folder, owner) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_server(postgres: Path, folder: Path, owner: str | None) -> Iterator[str]:
    """The server process of a cluster, ended at once afterwards: nobody needs its data."""
    port = free_port()
    options = ("listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}")
    command = [str(postgres), "-D", str(folder / "data")]
    command += [word for option in (*options, *SERVER_OPTIONS) for word in ("-c", option)]
    with open(folder / "log", "wb") as log:
        # A group of its own: Ctrl-C is for pytest, which then ends the server in good order.
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, user=owner, process_group=0
        )
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        wait_for(process, url, folder / "log")
        yield url
    finally:
        # PostgreSQL's "immediate" shutdown, which ends its own children too.
        process.send_signal(signal.SIGQUIT)
        process.wait(START_SECONDS)


def wait_for(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return when the server answers; `RuntimeError` with its log where it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if answers(url):
            return
        time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}")


def find_initdb() -> Path | None:
    """`initdb` on PATH, else the newest of those Debian keeps off PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve()
    places = glob.glob(INITDB_PLACES)
    return Path(max(places, key=version)) if places else None


def version(place: str) -> float:
    """The version in `/usr/lib/postgresql/<version>/bin/initdb`."""
    return float(place.split("/")[-3])


def unprivileged_user() -> str | None:
    """Whom to run the server as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoPostgres(f"{HOW_TO_ENABLE} (PostgreSQL does not run as root)")


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(url: str, *statements: str) -> None:
    """Run statements outside any transaction, as CREATE DATABASE must be."""
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
