from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpo_service import errors
from hpo_service.artifacts import Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def files(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_comes_back_by_its_hash(blobs: Blobs, tmp_path: Path) -> None:
    digest, size = blobs.put([b"ab", b"", b"c"])
    assert (digest, size) == (hashlib.sha256(b"abc").hexdigest(), 3)
    assert blobs.read(digest) == b"abc"
    assert blobs.path(digest) == tmp_path / "sha256" / digest[:2] / digest[2:]


def test_the_same_content_put_by_many_at_once_is_one_file(blobs: Blobs, tmp_path: Path) -> None:
    chunks = [b"x" * 10_000] * 20
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: blobs.put(chunks), range(32)))
    assert len(digests) == 1
    assert len(files(tmp_path)) == 1


def test_what_is_too_large_leaves_nothing_behind(blobs: Blobs, tmp_path: Path) -> None:
    assert blobs.put([b"12345"], limit=5)[1] == 5
    with pytest.raises(errors.TooLarge, match="5 bytes"):
        blobs.put([b"123", b"456"], limit=5)
    assert len(files(tmp_path)) == 1


def test_an_upload_that_breaks_off_leaves_nothing_behind(blobs: Blobs, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        blobs.put(broken())
    assert files(tmp_path) == []


def test_a_full_disk_is_said_plainly(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.Unavailable, match="disk is full"):
        blobs.put([b"abc"])
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "digest", ["0" * 64, "", "0" * 63, "A" * 64, "../../etc/passwd", "0" * 64 + "\n", "\u0660" * 64]
)
def test_nothing_but_a_stored_digest_is_a_path(blobs: Blobs, digest: str) -> None:
    with pytest.raises(errors.NotFound):
        blobs.path(digest)
