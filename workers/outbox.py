"""What attempts have to tell the server: in order, spooled, repeated until it is answered."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from hpo_service import errors, protocol
from hpo_service.client import Client
from workers import messages, spool
from workers.attempt import Attempt

BATCH = 1000  # reports per call
CHECKPOINT_SECONDS = 30.0  # of one lease at most so often; a trial that is shorter needs none

log = logging.getLogger("hpo.worker")

# The server does not answer, or does not want us: nothing is settled by that.
_UNSETTLED = (errors.Unavailable, errors.ServerError, errors.Unauthorized, errors.Forbidden)
# The attempt is over for us: lost, cancelled, finished, or its study is gone.
_OVER = (errors.Conflict, errors.NotFound)


class Outbox:
    """The attempts that the server has not heard the end of.

    `on_decision` gets each decision that asks an attempt for something else than to go on. With
    `in_order` the ends are told when all of them are known, in the order of the trials' numbers.
    """

    def __init__(
        self,
        client: Client,
        on_decision: Callable[[str, protocol.Decision], None],
        *,
        in_order: bool = False,
    ) -> None:
        self._client = client
        self._on_decision = on_decision
        self._in_order = in_order
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

    def still_running(self, leases: Iterable[protocol.TrialLease]) -> list[protocol.TrialLease]:
        """Those of these leases whose attempt has not ended."""
        running = set(self.running)
        return [lease for lease in leases if lease.lease_id in running]

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send."""
        pending = any(attempt.pending for attempt in self._attempts.values())
        return pending or bool(self._ended()) or self._to_store() is not None

    def open(
        self,
        lease: protocol.TrialLease,
        file: spool.Spool,
        entries: Iterable[messages.Entry] = (),
    ) -> None:
        """Begin with a lease; `entries` are what its spool held already."""
        store_at = time.monotonic() + CHECKPOINT_SECONDS
        self._attempts[lease.lease_id] = Attempt(lease, file, store_at=store_at)
        for entry in entries:
            self._apply(entry)

    def put(self, entry: messages.Entry) -> None:
        """Take what an attempt says, unless it is over; onto the disk first."""
        attempt = self._attempts.get(_lease_id(entry))
        if attempt is not None and attempt.running:
            attempt.spool.append(entry)
            self._apply(entry)
        elif attempt is None and isinstance(entry, messages.Stored | messages.Kept):
            spool.unlink(Path(entry.path))

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
        """Send what is there, reports before endings; raises where the server does not answer.

        Of the checkpoints one at most, last: nothing waits longer for them than for one upload.
        """
        if batch := self._batch():
            self._report(batch)
        for attempt in self._ended():
            if not attempt.pending:
                self._end(attempt)
            if self._in_order and attempt.lease.lease_id in self._attempts:
                break
        if due := self._to_store():
            self._store(due)

    def kept(self, lease_id: str) -> messages.Kept | None:
        """The newest checkpoint of an attempt."""
        attempt = self._attempts.get(lease_id)
        return attempt.kept if attempt is not None else None

    def resume(self, kept: messages.Kept) -> None:
        """Note the checkpoint that an attempt goes on from: the server has it."""
        if attempt := self._attempts.get(kept.lease_id):
            attempt.keep(kept, unsent=False)

    def is_pruned(self, lease_id: str) -> bool:
        """Whether the end of an attempt is decided, whatever its training will come to."""
        attempt = self._attempts.get(lease_id)
        return attempt is not None and attempt.pruned is not None

    def _ended(self) -> list[Attempt]:
        """The attempts whose end may be told by now."""
        attempts = list(self._attempts.values())
        if not self._in_order:
            return [attempt for attempt in attempts if not attempt.running]
        running = any(attempt.running for attempt in attempts)
        return [] if running else sorted(attempts, key=_number)

    def _to_store(self) -> Attempt | None:
        """The attempt whose checkpoint waits longest to be sent."""
        now = time.monotonic()
        due = [a for a in self._attempts.values() if a.running and now >= a.store_at]
        return min((a for a in due if a.may_store()), key=lambda a: a.store_at, default=None)

    def _apply(self, entry: messages.Entry) -> None:
        attempt = self._attempts[_lease_id(entry)]
        match entry:
            case messages.Reported(report=report):
                attempt.report(report)
            case messages.Stored():
                attempt.artifacts.append(entry)
            case messages.Kept():
                attempt.keep(entry, unsent=True)
            case messages.Told(tell=tell):
                attempt.ending = tell
            case messages.Released():
                attempt.release()

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
            if attempt.may_store():
                self._store(attempt)
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

    def _store(self, attempt: Attempt) -> None:
        """Send the newest checkpoint; a failure costs this safety net until the next one."""
        assert attempt.kept is not None
        lease_id, kept = attempt.lease.lease_id, attempt.kept
        attempt.store_at = time.monotonic() + CHECKPOINT_SECONDS
        try:
            data = Path(kept.path).read_bytes()
            self._client.put_artifact(lease_id, protocol.CHECKPOINT, data, kept.step)
        except (errors.Unauthorized, errors.Forbidden):
            raise
        except _UNSETTLED as error:
            log.warning("%s: the checkpoint is sent later: %s", attempt.label, error)
        except _OVER as error:
            self.drop(lease_id, error.code)
        except (errors.HpoError, OSError) as error:
            attempt.unsent = False
            log.warning("%s: the checkpoint cannot be sent: %s", attempt.label, error)
        else:
            attempt.unsent = False

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
