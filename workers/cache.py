"""Data files by the hash of their content; several workers may share the folder."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import ExitStack
from pathlib import Path

from hpo_service import errors, protocol
from hpo_service.client import Client


class Cache:
    """Blobs that were downloaded before. Held-out rows never come here."""

    def __init__(self, where: Path) -> None:
        self._folder = where / "blobs"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._verified: dict[str, tuple[int, int]] = {}

    def fetch(
        self, client: Client, lease: protocol.TrialLease, stack: ExitStack
    ) -> tuple[str | None, str | None]:
        """The paths of a lease's data and of its held-out rows, which are deleted with `stack`."""
        if lease.data is None:
            if isinstance(lease.objective, protocol.CustomObjective):
                return None, None
            raise errors.invalid("data", "this trial has no data that a worker could train on")
        path = self._folder / lease.data
        if not self._intact(path):
            client.download(lease.data, path)
            self._verified[path.name] = _stamp(path)
        if lease.holdout is None:
            return str(path), None
        # Nobody may find these rows later and search on them.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hpo-holdout-"))
        aside = Path(folder) / "holdout.safetensors"
        client.download(lease.holdout, aside, lease.lease_id)
        return str(path), str(aside)

    def fetch_predictions(
        self, client: Client, lease: protocol.TrialLease, stack: ExitStack
    ) -> dict[str, str]:
        """The paths of a final lease's predictions, and of the networks that it names, by hash;
        they are deleted with `stack`.
        """
        named = [said.sha256 for said in lease.predictions]
        named += [lease.networks] if lease.networks else []
        if not named:
            return {}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hpo-predictions-")))
        paths = {sha256: folder / sha256 for sha256 in named}
        for sha256, path in paths.items():
            client.download(sha256, path, lease.lease_id)
        return {sha256: str(path) for sha256, path in paths.items()}

    def _intact(self, path: Path) -> bool:
        """Hash the file once, and again when it was touched."""
        try:
            stamp = _stamp(path)
            if self._verified.get(path.name) == stamp:
                return True
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return False
        if digest != path.name:
            return False
        self._verified[path.name] = stamp
        return True


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns
