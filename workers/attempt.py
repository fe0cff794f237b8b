"""One attempt as its worker knows it: what was said about it, and what of that is still unsaid."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hpo_service import protocol
from workers import messages, spool


@dataclass
class Attempt:
    """One lease and all that was said about it."""

    lease: protocol.TrialLease
    spool: spool.Spool
    points: dict[int, protocol.Report] = field(default_factory=dict)
    pending: dict[int, protocol.Report] = field(default_factory=dict)  # not answered yet
    artifacts: list[messages.Stored] = field(default_factory=list)
    kept: messages.Kept | None = None  # the newest checkpoint, which stays while the trial runs
    unsent: bool = False  # the server does not have it yet
    store_at: float = 0.0  # not before
    ending: protocol.Tell | None = None
    released: bool = False
    # The point at which an answered decision said prune: the trial's value is that point's.
    pruned: protocol.Report | None = None

    @property
    def label(self) -> str:
        """How a reader of the log knows it."""
        lease = self.lease
        trial = f"trial {lease.number}" if lease.number is not None else lease.kind
        return f"{lease.study} {trial}" + (f" ({lease.model})" if lease.kind == "baseline" else "")

    @property
    def running(self) -> bool:
        """Whether its end is not known yet."""
        return self.ending is None and not self.released

    def report(self, report: protocol.Report) -> None:
        """Note a point; behind a pruning the curve has ended, however far the training ran.

        What was said of a step stands, where a second try in this attempt comes past it again.
        """
        if self.pruned is None and report.step not in self.points:
            self.points[report.step] = self.pending[report.step] = report

    def keep(self, kept: messages.Kept, *, unsent: bool) -> None:
        """Note a checkpoint; the one before it is of no more use."""
        if self.kept is not None and self.kept.path != kept.path:
            spool.unlink(Path(self.kept.path))
        self.kept, self.unsent = kept, unsent

    def may_store(self) -> bool:
        """Whether a checkpoint is there to be sent, and the server has the whole curve to it."""
        if self.kept is None or not self.unsent or self.pruned is not None:
            return False
        return all(step > self.kept.step for step in self.pending)

    def release(self) -> None:
        """Give the attempt back: only what its checkpoint needs is still worth saying."""
        last = self.kept.step if self.kept is not None and self.unsent else 0
        self.released = True
        self.pending = {step: report for step, report in self.pending.items() if step <= last}

    def prune(self, step: int | None) -> None:
        """Cut the curve at a step."""
        self.pruned = self.points.get(step or 0)
        if self.pruned is not None:
            self.pending = {k: v for k, v in self.pending.items() if k <= self.pruned.step}

    def outcome(self, tell: protocol.Tell) -> protocol.Tell:
        """What to tell: a pruning stands whatever came after it, so that timing decides nothing."""
        point = self.pruned
        if point is None:
            return tell
        return protocol.Tell(
            state="pruned",
            values=point.values,
            metrics=point.metrics,
            epoch=point.step,
            notes=tell.notes,
        )
