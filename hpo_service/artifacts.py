"""Files kept under the SHA-256 of their content: data sets, models, predictions.

A file is complete and on disk before anyone learns its name, so a row that names one can be
trusted; a file that no row names is garbage.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from hpo_service import errors

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_TEMPORARY = "incoming-"


class Blobs:
    """Content-addressed files under `<root>/sha256/ab/cd...`; safe for threads and processes."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "sha256"

    def put(self, chunks: Iterable[bytes], limit: int | None = None) -> tuple[str, int]:
        """Store the bytes and give back (SHA-256, size); the same content may be put again.

        On return the file survives a power loss. Raises `TooLarge` beyond `limit` bytes and
        `Unavailable` on a full disk; then, or where `chunks` raises, nothing is kept.
        """
        try:
            return self._put(chunks, limit)
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise errors.Unavailable("The server's disk is full.", retry_after=60) from error
            raise

    def path(self, sha256: str) -> Path:
        """Where the file lies; `NotFound` where there is none or the digest is not one."""
        if not self.has(sha256):
            raise errors.NotFound(f"There is no file with the SHA-256 {sha256[:64]!r}.")
        return self._place(sha256)

    def has(self, sha256: str) -> bool:
        """Whether there is such a file."""
        return bool(_SHA256.fullmatch(sha256)) and self._place(sha256).is_file()

    def read(self, sha256: str) -> bytes:
        """The whole file; `NotFound` where there is none."""
        return self.path(sha256).read_bytes()

    def remove(self, sha256: str) -> None:
        """Delete a file that no row names, if it is there."""
        self._place(sha256).unlink(missing_ok=True)

    def _put(self, chunks: Iterable[bytes], limit: int | None) -> tuple[str, int]:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Beside its later place: a rename is atomic only within one file system.
        descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=self.folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                sha256, size = _write(file, chunks, limit)
            self._publish(Path(temporary), sha256)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return sha256, size

    def _publish(self, temporary: Path, sha256: str) -> None:
        """Rename into place, also over a twin: whoever is reading that keeps his open file."""
        place = self._place(sha256)
        place.parent.mkdir(exist_ok=True)
        temporary.replace(place)
        for folder in (place.parent, self.folder, self.folder.parent):
            _sync_folder(folder)

    def _place(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256[2:]


def _write(file: BinaryIO, chunks: Iterable[bytes], limit: int | None) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if limit is not None and size > limit:
            raise errors.TooLarge(f"Larger than {limit:,} bytes, the most this server takes.")
        digest.update(chunk)
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest(), size


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
