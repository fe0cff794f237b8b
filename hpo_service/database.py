"""Engine, dialect set-up, `read()` and `write()`: the one place that commits."""

from __future__ import annotations

import fcntl
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from sqlalchemy import Engine, create_engine, event, exc, func, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from hpo_service import errors

T = TypeVar("T")

SQLITE_BUSY_MS = 5_000
SQLITE_READERS = 16
POOL_WAIT_SECONDS = 5.0
RETRIES = 5
RETRY_SECONDS = 0.02
# serialization_failure, deadlock_detected, lock_not_available
TRANSIENT_SQLSTATES = ("40001", "40P01", "55P03")
DATABASE_URL = "HPO_DATABASE_URL"
USABLE_URLS = "must be `sqlite:///<file>` or `postgresql://user@host/database`"
POSTGRES_OPTIONS = (
    "-c timezone=UTC -c lock_timeout=2s -c statement_timeout=15s "
    "-c idle_in_transaction_session_timeout=30s"
)


class ReadSession(Session):
    """A session that only reads: functions that write ask for a `WriteSession`."""


class WriteSession(Session):
    """A session inside `write()`: committed on success, rolled back on any exception."""


class Database:
    """One database, embedded SQLite or PostgreSQL.

    `clock` replaces the database's (PostgreSQL) or the process's (SQLite) clock in tests.
    """

    def __init__(self, url: str, clock: Callable[[], datetime] | None = None) -> None:
        self.url = normal_url(url)
        self.clock = clock
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite:
            self.reader = _sqlite_engine(self.url, writer=False)
            self.writer = _sqlite_engine(self.url, writer=True)
        else:
            self.reader = self.writer = _postgres_engine(self.url)

    @contextmanager
    def read(self) -> Iterator[ReadSession]:
        """A consistent view; nothing is ever written through it."""
        with translated(), ReadSession(self.reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[tuple[WriteSession, datetime]]:
        """A transaction and its time: commits at the end, rolls back on an exception."""
        with (
            translated(),
            WriteSession(self.writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session, self.now(session)

    def transact(self, change: Callable[[WriteSession, datetime], T]) -> T:
        """Run `change` in `write()`, again where another transaction stood in its way.

        Every change of ours is idempotent by key, so repeating a whole one is safe.
        """
        for attempt in range(RETRIES):
            try:
                with self.write() as (session, now):
                    return change(session, now)
            except Collision:
                time.sleep(RETRY_SECONDS * random.uniform(0.5, 1.5) * 2**attempt)
        raise errors.Unavailable("The database is busy: try again in a moment.", retry_after=1)

    def close(self) -> None:
        self.reader.dispose()
        self.writer.dispose()

    def now(self, session: Session) -> datetime:
        """The database's clock on PostgreSQL, the process's on SQLite, the test's own in tests."""
        if self.clock:
            return self.clock()
        if self.sqlite:
            return datetime.now(UTC)
        # clock_timestamp, not now(), which stands still within a transaction.
        stamp: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        return stamp.astimezone(UTC)


class Collision(errors.Unavailable):
    """Two transactions met: the whole of one has to run again."""


def normal_url(url: str) -> URL:
    """The URL with the driver we ship (psycopg 3) for PostgreSQL; refuses other databases."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (exc.ArgumentError, ValueError):
        raise errors.invalid(DATABASE_URL, USABLE_URLS) from None
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise errors.invalid(DATABASE_URL, USABLE_URLS)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours, once, at the border."""
    try:
        yield
    except exc.IntegrityError as error:
        # A unique key said no: another transaction was there first. Run again and see its row.
        raise Collision(str(error.orig)) from error
    except exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in TRANSIENT_SQLSTATES:
            raise Collision(str(error.orig)) from error
        if isinstance(error, exc.OperationalError | exc.InternalError):
            raise errors.Unavailable(
                "The database does not answer: try again in a moment.", retry_after=2
            ) from error
        raise
    except exc.TimeoutError as error:
        raise errors.Unavailable(
            "The database is busy: try again in a moment.", retry_after=1
        ) from error


def _postgres_engine(url: URL) -> Engine:
    return create_engine(
        url,
        pool_size=20,
        max_overflow=20,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_pre_ping=True,
        connect_args={"options": POSTGRES_OPTIONS, "connect_timeout": 5},
    )


def _sqlite_engine(url: URL, *, writer: bool) -> Engine:
    """One writing connection, so that SQLite's lock is ours to queue for; readers cannot write."""
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1 if writer else SQLITE_READERS,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        # pysqlite's own implicit BEGIN comes too late for us: transactions begin below.
        connect_args={"isolation_level": None, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        for pragma in _sqlite_pragmas(writer):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


def _sqlite_pragmas(writer: bool) -> list[str]:
    pragmas = [
        f"busy_timeout={SQLITE_BUSY_MS}",
        "foreign_keys=ON",
        "mmap_size=0",
        "trusted_schema=OFF",
    ]
    if writer:
        # FULL: a commit that was acknowledged survives a power loss too.
        return [*pragmas, "journal_mode=WAL", "synchronous=FULL", "journal_size_limit=67108864"]
    return [*pragmas, "query_only=ON", "wal_autocheckpoint=0"]


def lock_file(path: Path) -> IO[bytes]:
    """Hold `<path>.lock` until the returned file is closed: one server per SQLite file."""
    file = open(f"{path}.lock", "ab")  # noqa: SIM115 (held as long as the server lives)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise errors.WrongState(
            f"Another server uses {path}: stop it, or choose another HPO_DATA_DIR."
        ) from error
    return file
