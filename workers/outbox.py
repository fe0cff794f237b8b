"""What attempts have to tell the server: in order, spooled, repeated until it is answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hpo_service import errors, protocol
from hpo_service.client import Client
from workers import messages
from workers.spool import Spool

BATCH = 1000  # reports per call

log = logging.getLogger("hpo.worker")

# The server does not answer, or does not want us: nothing is settled by that.
_UNSETTLED = (errors.Unavailable, errors.ServerError, errors.Unauthorized, errors.Forbidden)
# The attempt is over for us: lost, cancelled, finished, or its study is gone.
_OVER = (errors.Conflict, errors.NotFound)


@dataclass
class Attempt:
    """One lease and all that was said about it."""

    lease: protocol.TrialLease
    spool: Spool
    points: dict[int, protocol.Report] = field(default_factory=dict)
    pending: dict[int, protocol.Report] = field(default_factory=dict)  # not answered yet
    artifacts: list[messages.Stored] = field(default_factory=list)
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
        """Note a point; behind a pruning the curve has ended, however far the training ran."""
        if self.pruned is None:
            self.points[report.step] = self.pending[report.step] = report

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


class Outbox:
    """The attempts that the server has not heard the end of.

    `on_decision` gets each decision that asks an attempt for something else than to go on.
    """

    def __init__(
        self, client: Client, on_decision: Callable[[str, protocol.Decision], None]
    ) -> None:
        self._client = client
        self._on_decision = on_decision
        self._attempts: dict[str, Attempt] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    @property
    def labels(self) -> str:
        """All of them, as a reader of the log knows them."""
        return ", ".join(attempt.label for attempt in self._attempts.values())

    @property
    def lease_ids(self) -> list[str]:
        """The leases still held."""
        return list(self._attempts)

    @property
    def running(self) -> list[str]:
        """The leases whose attempt has not ended."""
        return [lease_id for lease_id, attempt in self._attempts.items() if attempt.running]

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send."""
        return any(a.pending or not a.running for a in self._attempts.values())

    def open(
        self,
        lease: protocol.TrialLease,
        spool: Spool,
        entries: Iterable[messages.Entry] = (),
    ) -> None:
        """Begin with a lease; `entries` are what its spool held already."""
        self._attempts[lease.lease_id] = Attempt(lease, spool)
        for entry in entries:
            self._apply(entry)

    def put(self, entry: messages.Entry) -> None:
        """Take what an attempt says, unless it is over; onto the disk first."""
        attempt = self._attempts.get(_lease_id(entry))
        if attempt is not None and attempt.running:
            attempt.spool.append(entry)
            self._apply(entry)

    def fail(self, lease_id: str, reason: str, message: str) -> None:
        """End an attempt as failed."""
        error = protocol.TrialError(reason=reason, message=message[:4000])
        self.put(messages.Told(lease_id=lease_id, tell=protocol.Tell(state="fail", error=error)))

    def release(self, lease_id: str) -> None:
        """Give an attempt back unfinished."""
        self.put(messages.Released(lease_id=lease_id))

    def drop(self, lease_id: str, why: str) -> None:
        """Forget an attempt that is not ours any more, and stop its training."""
        attempt = self._attempts.pop(lease_id, None)
        if attempt is not None:
            log.info("%s: dropped (%s)", attempt.label, why)
            attempt.spool.remove()
            self._on_decision(lease_id, protocol.Decision(action="lost"))

    def close(self) -> None:
        """Leave what is unsaid to the next worker that starts."""
        for attempt in self._attempts.values():
            attempt.spool.close()
        self._attempts = {}

    def flush(self) -> None:
        """Send what is there, reports before endings; raises where the server does not answer."""
        if batch := self._batch():
            self._report(batch)
        for attempt in list(self._attempts.values()):
            if not attempt.running and not attempt.pending:
                self._end(attempt)

    def _apply(self, entry: messages.Entry) -> None:
        attempt = self._attempts[_lease_id(entry)]
        match entry:
            case messages.Reported(report=report):
                attempt.report(report)
            case messages.Stored():
                attempt.artifacts.append(entry)
            case messages.Kept():
                pass
            case messages.Told(tell=tell):
                attempt.ending = tell
            case messages.Released():
                attempt.released, attempt.pending = True, {}

    def _batch(self) -> list[protocol.Report]:
        """The oldest points, in the order in which the server judges them: step, then trial."""
        points = [
            (report.step, _number(attempt), report)
            for attempt in self._attempts.values()
            for report in attempt.pending.values()
        ]
        return [report for _, _, report in sorted(points, key=lambda point: point[:2])[:BATCH]]

    def _report(self, batch: list[protocol.Report]) -> None:
        try:
            answer = self._client.report(protocol.Reports(reports=batch))
        except _UNSETTLED:
            raise
        except errors.HpoError as error:
            self._refused(batch, error)
            return
        for report in batch:
            self._attempts[report.lease_id].pending.pop(report.step, None)
        for lease_id, decision in answer.decisions.items():
            self._judged(lease_id, decision)

    def _refused(self, batch: list[protocol.Report], error: errors.HpoError) -> None:
        """Find the report that is at fault by halves, so that the others get through."""
        middle = len(batch) // 2
        if middle:
            for half in (batch[:middle], batch[middle:]):
                if left := [report for report in half if self._is_pending(report)]:
                    self._report(left)
            return
        (report,) = batch
        attempt = self._attempts[report.lease_id]
        attempt.pending.pop(report.step)
        if isinstance(error, errors.ReportConflict):
            log.warning("%s: step %d was stored with another value", attempt.label, report.step)
        elif isinstance(error, _OVER):
            self.drop(report.lease_id, error.code)
        else:
            self._fail_refused(attempt, f"The report of step {report.step} was refused: {error}")
            self._on_decision(report.lease_id, protocol.Decision(action="stop"))

    def _is_pending(self, report: protocol.Report) -> bool:
        attempt = self._attempts.get(report.lease_id)
        return attempt is not None and report.step in attempt.pending

    def _judged(self, lease_id: str, decision: protocol.Decision) -> None:
        attempt = self._attempts.get(lease_id)
        if attempt is None or decision.action == "continue":
            return
        if decision.action == "prune":
            attempt.prune(decision.step)
            self._on_decision(lease_id, decision)
        else:
            self.drop(lease_id, decision.action)

    def _end(self, attempt: Attempt) -> None:
        lease_id = attempt.lease.lease_id
        try:
            log.info("%s: %s", attempt.label, self._say_end(attempt))
        except _UNSETTLED:
            raise
        except _OVER as error:
            self.drop(lease_id, error.code)
        except (errors.HpoError, OSError) as error:
            self._result_refused(attempt, error)
        else:
            del self._attempts[lease_id]
            attempt.spool.remove()

    def _say_end(self, attempt: Attempt) -> str:
        lease_id = attempt.lease.lease_id
        if attempt.ending is None:
            self._client.release(lease_id)
            return "released"
        while attempt.artifacts and attempt.pruned is None:
            stored = attempt.artifacts[0]
            self._client.put_artifact(lease_id, stored.name, Path(stored.path).read_bytes())
            attempt.artifacts.pop(0)
        tell = attempt.outcome(attempt.ending)
        told = self._client.tell(lease_id, tell)
        values = " ".join(f"{value:.6g}" for value in told.values or [])
        error = f"{tell.error.reason}: {tell.error.message}" if tell.error else ""
        return " ".join(part for part in (told.state, values, error) if part)

    def _result_refused(self, attempt: Attempt, error: Exception) -> None:
        if attempt.ending is None or attempt.ending.state == "fail":
            self.drop(attempt.lease.lease_id, f"refused: {error}")
        else:
            self._fail_refused(attempt, f"The result was refused: {error}")

    def _fail_refused(self, attempt: Attempt, message: str) -> None:
        """What the server cannot take is our mistake; the trial fails, whatever it was to be."""
        log.error("%s: %s", attempt.label, message)
        attempt.ending, attempt.pruned, attempt.artifacts, attempt.pending = None, None, [], {}
        self.fail(attempt.lease.lease_id, "error", message)


def _lease_id(entry: messages.Entry) -> str:
    return entry.report.lease_id if isinstance(entry, messages.Reported) else entry.lease_id


def _number(attempt: Attempt) -> tuple[int, int]:
    lease = attempt.lease
    return (lease.number if lease.number is not None else -1, lease.trial_id)
