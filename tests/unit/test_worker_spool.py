"""What a worker keeps on disk: spools that survive a crash, data that is what it claims to be."""

from __future__ import annotations

import hashlib
import io
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from hpo_service import errors, protocol
from hpo_service.client import Client
from workers import messages, spool
from workers.cache import Cache

LEASE_ID = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"


def lease(data: str | None = None) -> protocol.TrialLease:
    return protocol.TrialLease(
        lease_id=LEASE_ID,
        study_id=1,
        study="demo",
        trial_id=1,
        number=0,
        kind="search",
        attempt=1,
        ttl=60.0,
        params={"learning_rate": 0.1, "units": 3, "bias": True, "name": "é"},
        seed=0,
        study_seed=0,
        objective=protocol.ExternalObjective(kind="external"),
        data=data,
    )


def entries() -> list[messages.Entry]:
    reports: list[messages.Entry] = [
        messages.Reported(report=protocol.Report(lease_id=LEASE_ID, step=k, values=[k / 3, None]))
        for k in (1, 2, 3)
    ]
    tell = protocol.Tell(state="complete", values=[1.0], epoch=3)
    return [*reports, messages.Told(lease_id=LEASE_ID, tell=tell)]


def written(folder: Path) -> Path:
    made = spool.Spool.create(folder, lease())
    for entry in entries():
        made.append(entry)
    made.close()
    (path,) = folder.iterdir()
    return path


def test_a_spool_gives_back_what_was_put_in(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    ((left, found, again),) = spool.orphans(tmp_path)
    assert (found, again) == (lease(), entries())
    left.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_spool_cut_at_any_byte_loses_only_its_torn_end(tmp_path: Path) -> None:
    whole = written(tmp_path).read_bytes()
    expected = list(spool.read(io.BytesIO(whole)))
    lines = [len(line) for line in whole.splitlines(keepends=True)]
    for size in range(len(whole)):
        complete = sum(sum(lines[: n + 1]) <= size for n in range(len(lines)))
        assert list(spool.read(io.BytesIO(whole[:size]))) == expected[:complete]
        assert list(spool.read(io.BytesIO(whole[:size] + b"\0\xff{}"))) == expected[:complete]


def test_the_spool_of_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    made = spool.Spool.create(tmp_path, lease())
    assert list(spool.orphans(tmp_path)) == []
    made.close()
    ((left, _, _),) = spool.orphans(tmp_path)
    left.close()


def test_a_disk_that_fails_costs_the_spool_and_not_the_trial(tmp_path: Path) -> None:
    made = spool.Spool.create(tmp_path / "missing", lease())
    made.append(entries()[0])
    made.remove()
    assert not (tmp_path / "missing").exists()


class Downloads:
    """Stands in for the client: brings `content`, whatever is asked for."""

    def __init__(self, content: bytes) -> None:
        self.content, self.count = content, 0

    def download(self, sha256: str, path: Path, lease_id: str | None = None) -> None:
        self.count += 1
        path.write_bytes(self.content)


def test_cached_data_is_verified_and_fetched_anew_where_it_was_damaged(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"rows").hexdigest()
    server, cache = Downloads(b"rows"), Cache(tmp_path)
    client = cast(Client, server)
    with ExitStack() as stack:
        path, holdout = cache.fetch(client, lease(sha256), stack)
        cache.fetch(client, lease(sha256), stack)
        Cache(tmp_path).fetch(client, lease(sha256), stack)
        assert (holdout, server.count) == (None, 1)
        Path(path).write_bytes(b"other")
        for _ in range(2):
            cache.fetch(client, lease(sha256), stack)
            assert Path(path).read_bytes() == b"rows"
        assert server.count == 2
        with pytest.raises(errors.InvalidRequest):
            cache.fetch(client, lease(None), stack)
