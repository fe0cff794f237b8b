"""What a lease has to say, on disk until the server has answered it.

One append-only file per lease, mode 0600, in the order in which things happened. The file is
locked while its worker lives, so a file without a lock is what a dead worker left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from hpo_service import protocol
from workers import messages

SYNC_SECONDS = 2.0  # at most so often, and before each ending

log = logging.getLogger("hpo.worker")


class Spool:
    """The file of one lease. A disk that fails costs the safety net, never the trial."""

    def __init__(self, path: Path, file: BinaryIO | None) -> None:
        self._path = path
        self._file = file
        self._synced = time.monotonic()

    @classmethod
    def create(cls, folder: Path, lease: protocol.TrialLease) -> Spool:
        """Begin the file of a lease."""
        path = folder / f"{lease.lease_id}.spool"
        # Locked before it has its name: another worker that starts now must not adopt it.
        temporary = path.with_suffix(".new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            file = os.fdopen(descriptor, "ab", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.replace(temporary, path)
        except OSError as error:
            log.warning("no spool for this trial: %s", error)
            return cls(path, None)
        spool = cls(path, file)
        spool.append(messages.Opened(lease=lease))
        return spool

    def append(self, entry: messages.Opened | messages.Entry) -> None:
        """Write an entry; on disk within two seconds of work, an ending at once."""
        if self._file is None:
            return
        body = messages.line(entry)
        try:
            self._file.write(b"%08x " % zlib.crc32(body) + body)
            ending = isinstance(entry, messages.Told | messages.Released)
            if ending or time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            log.warning("the spool cannot be written, going on without: %s", error)
            self.close()

    def close(self) -> None:
        """Leave the file to the next worker that starts."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """The server knows all, or wants nothing: delete the file and the lease's artifacts."""
        for path in (self._path, *self._path.parent.glob(f"{self._path.stem}.*")):
            unlink(path)
        self.close()


def unlink(path: Path) -> None:
    """Delete a file, if it is there and the disk lets us."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def folder(cache: Path, url: str) -> Path:
    """The folder of spools for one server: what was meant for it is not told to another."""
    path = cache / "spool" / hashlib.sha256(url.encode()).hexdigest()[:16]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def orphans(where: Path) -> Iterator[tuple[Spool, protocol.TrialLease, list[messages.Entry]]]:
    """Spools whose worker is dead, each with its lease and entries; unreadable ones are deleted."""
    for path in sorted(where.glob("*.spool")):
        try:
            file = path.open("rb")
        except OSError:  # its worker has just ended it
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        entries = list(read(file))
        spool = Spool(path, file)
        if entries and isinstance(entries[0], messages.Opened):
            rest = [entry for entry in entries if not isinstance(entry, messages.Opened)]
            yield spool, entries[0].lease, rest
        else:
            spool.remove()


def read(file: BinaryIO) -> Iterator[messages.Opened | messages.Entry]:
    """The entries up to the first damaged one: what follows a torn line was never told."""
    for line in file:
        checksum, _, body = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(body):
            return
        try:
            yield messages.spooled.validate_json(body)
        except ValidationError:
            return
