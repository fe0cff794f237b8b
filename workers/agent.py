"""The agent: leases trials, has them trained by its child process, and speaks to the server.

Everything that happens (what the child says, what the heartbeat hears, signals) comes through one
queue to one thread, so nothing here needs a lock. The agent never trains and never loads torch.
"""

from __future__ import annotations

import logging
import queue
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass

from hpo_service import errors, protocol
from hpo_service.client import Client
from workers import messages, spool
from workers.backoff import Backoff
from workers.fetching import Fetching
from workers.heart import Heart
from workers.leasing import IDLE_SECONDS, MAX_IDLE_SECONDS, Leasing
from workers.options import Halt, Options
from workers.outbox import Outbox
from workers.refill import Refill
from workers.trainer import Trainer
from workers.underway import time_limit
from workers.workshop import Workshop

FLUSH_SECONDS = 0.25  # reports go out at most so often
TICK_SECONDS = 1.0  # the longest sleep while a pack runs
START_SECONDS = 300.0  # for the child to load torch and wake the device
EPOCH_SECONDS = 15.0  # after a signal: for the epoch to end
SEND_SECONDS = 5.0  # at the end: for what is left to be sent
MAX_FAILURES = 20  # answers "500" in a row to what a finished pack has to say: minutes

log = logging.getLogger("hpo.worker")

# No answer, or none that settles anything: ask again.
_AWAY = (errors.Unavailable, errors.ServerError)
_UNWELCOME = (errors.Unauthorized, errors.Forbidden)


@dataclass(frozen=True)
class _Fate:
    lease_id: str
    fate: protocol.Fate


@dataclass(frozen=True)
class _Heard:
    trainer: Trainer
    message: messages.FromChild | None  # None: the process has ended


class Agent:
    """One worker. `run` returns the exit code: 0, 1 in trouble, or 128 + n after a signal n.

    The first SIGTERM or SIGINT lets the epoch end and releases the leases, the second releases
    them at once. The graceful end after one SIGTERM is exit code 0.
    """

    def __init__(self, client: Client, options: Options) -> None:
        self._client, self._options = client, options
        # SimpleQueue: the only queue that a signal handler may put to.
        self._inbox: queue.SimpleQueue[_Fate | _Heard | errors.HpoError | None]
        self._inbox = queue.SimpleQueue()
        self._spools = spool.folder(options.cache, client.url)
        self._outbox = Outbox(client, self._on_decision, in_order=not options.refill)
        self._fetching = Fetching(client, options.cache, self._spools, self._outbox)
        self._leasing = Leasing(client, options)
        self._workshop = Workshop(
            options,
            self._outbox,
            self._fetching,
            Refill(self._leasing),
            self._on_heard,
            self._open,
        )
        self._heart = Heart(client, options.name, self._on_fate, self._inbox.put)
        self._backoff = Backoff()
        self._flush_at = 0.0
        self._failures = 0  # of the server itself, in a row
        self._signals: list[int] = []

    def on_signal(self, number: int) -> None:
        """Take note of SIGTERM or SIGINT; the loop acts on it."""
        self._signals.append(number)
        self._inbox.put(None)

    @property
    def exit_code(self) -> int:
        """What the signals so far come to."""
        return 0 if self._signals in ([], [signal.SIGTERM]) else 128 + self._signals[-1]

    def run(self) -> int:
        """Work until there is no more to do, a signal comes, or it cannot go on."""
        try:
            self._work()
        except (Halt, *_UNWELCOME) as error:
            log.error("stopping: %s", error)
            return 1
        finally:
            self._close()
        return self.exit_code

    def _work(self) -> None:
        self._workshop.start()
        self._heart.start()
        self._replay()
        self._wait_for_trainer()
        name, device = self._options.name, self._heart.device
        log.info("%s on %s for %s: %s", name, device, self._client.url, self._options.does)
        while not self._signals:
            width = 1 if self._workshop.alone else self._options.pack
            leases = self._workshop.take_aside() or self._lease(width)
            if leases is None:
                return
            if leases:
                self._evaluate(leases, width)

    def _close(self) -> None:
        self._workshop.close()
        for lease_id in self._outbox.running:
            self._outbox.release(lease_id)
        try:
            self._send_rest()
        except errors.HpoError as error:
            log.warning("kept in the spool: %s", error)
        self._heart.stop()
        self._outbox.close()

    def _send_rest(self) -> None:
        """Say what is left to say, for some seconds; the spool keeps what could not be said."""
        limit = time.monotonic() + SEND_SECONDS
        while len(self._outbox) and time.monotonic() < limit:
            self._outbox.flush()
        self._leasing.give_back()

    def _replay(self) -> None:
        """Tell what dead workers left in their spools.

        Their attempts without an end are left to expire: they died with their worker and must
        count as lost, or a trial that kills its workers would come back for ever.
        """
        for left, lease, entries in spool.orphans(self._spools):
            if any(isinstance(entry, messages.Told | messages.Released) for entry in entries):
                self._outbox.open(lease, left, entries)
            else:
                left.remove()
        if len(self._outbox):
            log.info("from the spool: %s", self._outbox.labels)
        while len(self._outbox) and not self._signals:
            self._flush()
            self._next(self._flush_at - time.monotonic())

    # --- leases -----------------------------------------------------------------------------

    def _lease(self, count: int) -> list[protocol.TrialLease] | None:
        """New leases; none after a pause; None where there is nothing more to come."""
        try:
            answer = self._leasing.ask(count)
            self._backoff.reset()
            if answer.leases:
                self._open(answer.leases)
                self._workshop.alone = max(0, self._workshop.alone - len(answer.leases))
                return answer.leases
            if self._options.once and self._leasing.nothing_left():
                return None
        except (*_AWAY, errors.Conflict) as error:
            self._pause(self._backoff.after(error))
        except _UNWELCOME:
            raise
        except errors.HpoError as error:
            raise Halt(str(error)) from error
        else:
            self._pause(min(answer.retry_after or IDLE_SECONDS, MAX_IDLE_SECONDS))
        return []

    def _open(self, leases: list[protocol.TrialLease]) -> None:
        for lease in leases:
            self._outbox.open(lease, spool.Spool.create(self._spools, lease))
        log.info("leased: %s", self._outbox.labels)
        self._heart.hold(self._outbox.lease_ids, leases[0].ttl)

    # --- a pack -----------------------------------------------------------------------------

    def _evaluate(self, leases: list[protocol.TrialLease], width: int) -> None:
        began = time.monotonic()
        with ExitStack() as stack:
            if pack := self._fetch(leases, stack):
                self._workshop.begin(pack, width, began)
            self._supervise()
        self._heart.hold(self._outbox.lease_ids)

    def _fetch(self, leases: list[protocol.TrialLease], stack: ExitStack) -> messages.Pack | None:
        """Bring the files of a pack, however long the server is away; None where it was in vain."""
        deadline = time.monotonic() + time_limit(leases[0])
        while (wanted := self._outbox.still_running(leases)) and not self._signals:
            try:
                pack = self._fetching.pack(wanted, stack)
            except _AWAY as error:
                if time.monotonic() > deadline:
                    self._fail(wanted, "timeout", f"The data did not come in time: {error}")
                self._pause(self._backoff.after(error))
            except _UNWELCOME:
                raise
            except errors.HpoError as error:
                self._fail(wanted, "error", f"The data cannot be had: {error}")
            except OSError as error:
                raise Halt(f"the data cannot be stored: {error}") from error
            else:
                self._backoff.reset()
                return pack
        return None

    def _supervise(self) -> None:
        """See the pack through until the server has heard all of it, or a signal comes."""
        while self._workshop.busy or len(self._outbox) > len(self._workshop.aside):
            if self._signals:
                self._wind_down()
                return
            self._next(self._until_flush())
            if self._outbox.waiting and time.monotonic() >= self._flush_at:
                self._flush()
            self._workshop.see_to_pack(refill=not self._signals and not self._backoff.failures)

    def _until_flush(self) -> float:
        if not self._outbox.waiting:
            return TICK_SECONDS
        return min(TICK_SECONDS, self._flush_at - time.monotonic())

    def _wind_down(self) -> None:
        """Let the epoch end, or not even that after a second signal."""
        log.info("stopping after this epoch")
        for lease_id in self._outbox.running:
            self._on_decision(lease_id, protocol.Decision(action="stop"))
        limit = time.monotonic() + EPOCH_SECONDS
        while self._workshop.busy and len(self._signals) < 2 and time.monotonic() < limit:
            self._next(limit - time.monotonic())

    def _fail(self, leases: list[protocol.TrialLease], reason: str, message: str) -> None:
        for lease in leases:
            self._outbox.fail(lease.lease_id, reason, message)

    def _wait_for_trainer(self) -> None:
        """No lease is taken before the child can train: a broken machine must not fail trials."""
        limit = time.monotonic() + START_SECONDS
        while not self._workshop.ready and not self._signals:
            if time.monotonic() > limit:
                raise Halt(f"the training process did not start in {START_SECONDS:g} seconds")
            self._next(limit - time.monotonic())

    # --- events -----------------------------------------------------------------------------

    def _on_fate(self, lease_id: str, fate: protocol.Fate) -> None:
        self._inbox.put(_Fate(lease_id, fate))

    def _on_decision(self, lease_id: str, decision: protocol.Decision) -> None:
        self._workshop.forward(lease_id, decision)

    def _on_heard(self, trainer: Trainer, message: messages.FromChild | None) -> None:
        self._inbox.put(_Heard(trainer, message))

    def _pause(self, seconds: float) -> None:
        """Let time pass, not events; a signal ends it."""
        until = time.monotonic() + seconds
        while not self._signals and time.monotonic() < until:
            self._next(until - time.monotonic())

    def _next(self, timeout: float) -> None:
        """Act on the next event, if one comes in time."""
        try:
            event = self._inbox.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return
        match event:
            case errors.HpoError():
                raise event
            case _Fate(lease_id, fate):
                self._outbox.drop(lease_id, fate)
            case _Heard(trainer, message) if self._workshop.is_current(trainer):
                self._hear(trainer, message)

    def _hear(self, trainer: Trainer, message: messages.FromChild | None) -> None:
        match message:
            case None if self._signals:
                self._workshop.close()
            case None:
                self._workshop.ended(trainer)
            case messages.Ready(device=device):
                self._workshop.ready, self._heart.device = True, device
            case messages.Broken(message=text):
                raise Halt(f"the training process cannot work: {text}")
            case messages.Done(lease_ids=lease_ids):
                self._workshop.done(lease_ids)
            case messages.Reported() | messages.Stored() | messages.Kept():
                self._outbox.put(message)
            case messages.Told():
                self._on_told(message)

    def _on_told(self, told: messages.Told) -> None:
        self._workshop.told(told.lease_id)
        if self._signals and told.tell.state != "complete":
            return  # cut short by us: it will be released
        self._outbox.put(told)
        if not self._backoff.failures:
            self._flush_at = 0.0

    # --- speaking to the server -------------------------------------------------------------

    def _flush(self) -> None:
        try:
            self._outbox.flush()
        except _AWAY as error:
            self._flush_at = time.monotonic() + self._backoff.after(error)
            self._failures += isinstance(error, errors.ServerError)
            if self._failures >= MAX_FAILURES and not self._workshop.busy:
                log.error("%s: left in the spool: %s", self._outbox.labels, error)
                self._failures = 0
                self._outbox.close()
        else:
            self._backoff.reset()
            self._failures = 0
            self._flush_at = time.monotonic() + FLUSH_SECONDS
        self._heart.hold(self._outbox.lease_ids)
