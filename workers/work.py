"""What an objective is given and how it answers: all that a new objective has to know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpo_service import protocol


class Channel(Protocol):
    """How an objective speaks; no call waits for the server."""

    def report(self, report: protocol.Report) -> None:
        """A step is finished."""

    def decision(self, lease_id: str) -> protocol.Decision | None:
        """The newest decision that has arrived for this lease."""

    def tell(self, lease_id: str, tell: protocol.Tell) -> None:
        """How the attempt ended: once per lease, after its reports and artifacts."""

    def artifact(self, lease_id: str, name: str, data: bytes) -> None:
        """A file to store with the attempt, before its tell."""


@dataclass(frozen=True)
class Work:
    """A pack: leases of one study to evaluate together.

    `data` is the search part of the data, `holdout` the rows held out (a final lease alone has
    them); both are safetensors files, see `protocol.DatasetSchema`. `device` is `cpu`, `cuda` or
    `cuda:N`, `threads` how many CPU threads to use.
    """

    leases: list[protocol.TrialLease]
    data: Path
    holdout: Path | None
    device: str
    threads: int
