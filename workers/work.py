"""What an objective is given and how it answers: all that a new objective has to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from hpo_service import protocol

Precision = Literal["full", "mixed"]


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

    def checkpoint(self, lease_id: str, step: int, data: bytes) -> None:
        """Keep this as the state after `step`, whose report was sent before; the newest counts.

        It costs writing a file: some seconds apart is often enough. Only after the decision `stop`
        is it worth its price always, before the tell: the next attempt goes on from there.
        """

    def more(self) -> list[protocol.TrialLease]:
        """Leases that came since the last call, of the same study and data: evaluate them too.

        What is not asked for is evaluated as a pack of its own when this one has ended.
        """


@dataclass(frozen=True)
class Work:
    """A pack: leases of one study to evaluate together.

    `data` is the search part of the data (None where the study names no data set), `holdout` the
    rows held out (a final lease alone has them); both are safetensors files, see
    `protocol.DatasetSchema`. `device` is `cpu`, `cuda` or
    `cuda:N`, `threads` how many CPU threads to use. `checkpoints` holds, for each lease with a
    `resume_step` above 0, the file with the state after that step, those of `Channel.more` too.
    `predictions` are the files that a final lease names, by hash, networks of folds among them. At
    most `lanes` networks are to be trained in one pass, where that is set: memory is short. `mixed`
    precision: a GPU may round the factors of products, everything else is float32.
    """

    leases: list[protocol.TrialLease]
    data: Path | None
    holdout: Path | None
    device: str
    threads: int
    checkpoints: dict[str, Path] = field(default_factory=dict)
    lanes: int | None = None
    predictions: dict[str, Path] = field(default_factory=dict)
    precision: Precision = "full"
