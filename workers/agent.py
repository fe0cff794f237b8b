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
from pathlib import Path

from hpo_service import errors, protocol
from hpo_service.client import Client
from workers import messages, spool
from workers.backoff import Backoff
from workers.cache import Cache
from workers.heart import Heart
from workers.leasing import Leasing
from workers.outbox import Outbox
from workers.trainer import Trainer

FLUSH_SECONDS = 0.25  # reports go out at most so often
TICK_SECONDS = 1.0  # the longest sleep while a pack runs
START_SECONDS = 300.0  # for the child to load torch and wake the device
DROP_SECONDS = 10.0  # for the child to notice that nobody wants its pack any more
IDLE_SECONDS = 1.0  # between requests for a lease where the server names no pause
MAX_IDLE_SECONDS = 60.0
EPOCH_SECONDS = 15.0  # after a signal: for the epoch to end
SEND_SECONDS = 5.0  # at the end: for what is left to be sent
MAX_FAILURES = 20  # answers "500" in a row to what a finished pack has to say: minutes
TIME_LIMIT = 3600.0  # per attempt, where the objective names none

log = logging.getLogger("hpo.worker")

# No answer, or none that settles anything: ask again.
_AWAY = (errors.Unavailable, errors.ServerError)
_UNWELCOME = (errors.Unauthorized, errors.Forbidden)


class Halt(Exception):
    """The worker cannot go on; the message is for its user."""


@dataclass(frozen=True)
class Options:
    """How a worker works. `name` is unique to the process, `pack` the trials trained together.

    `objective` is the function `module:name` that the child runs, see `workers.work`.
    """

    name: str
    cache: Path
    study: str | int | None = None
    once: bool = False
    pack: int = 1
    device: str = "auto"
    threads: int = 1
    objective: str = "workers.objective:run"


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
        self._cache = Cache(options.cache)
        self._outbox = Outbox(client, self._forward)
        self._leasing = Leasing(client, options.name, options.study)
        self._heart = Heart(client, options.name, self._on_fate, self._inbox.put)
        self._backoff = Backoff()
        self._flush_at = 0.0
        self._failures = 0  # of the server itself, in a row
        self._trainer: Trainer | None = None
        self._ready = False  # the child has loaded its objective
        self._busy = False  # the child works on a pack
        self._signals: list[int] = []
        self._alone = 0  # trials still to be run one by one after a pack died

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
        self._start_trainer()
        self._heart.start()
        self._replay()
        self._wait_for_trainer()
        log.info("%s on %s for %s", self._options.name, self._heart.device, self._client.url)
        while not self._signals:
            leases = self._lease()
            if leases is None:
                return
            if leases:
                self._evaluate(leases)

    def _close(self) -> None:
        if self._trainer is not None:
            self._trainer.kill()
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

    def _lease(self) -> list[protocol.TrialLease] | None:
        """New leases; none after a pause; None where there is nothing more to come."""
        try:
            answer = self._leasing.ask(1 if self._alone else self._options.pack)
            self._backoff.reset()
            if answer.leases:
                self._alone = max(0, self._alone - len(answer.leases))
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

    # --- a pack -----------------------------------------------------------------------------

    def _evaluate(self, leases: list[protocol.TrialLease]) -> None:
        limit = _time_limit(leases[0])
        deadline = time.monotonic() + limit
        for lease in leases:
            self._outbox.open(lease, spool.Spool.create(self._spools, lease))
        log.info("leased: %s", self._outbox.labels)
        self._heart.hold(self._outbox.lease_ids, leases[0].ttl)
        with ExitStack() as stack:
            if pack := self._fetch(leases, deadline, stack):
                self._busy = True
                self._tell_child(pack)
            self._supervise(deadline, f"The attempt took longer than its {limit:g} seconds.")
        self._heart.hold(self._outbox.lease_ids)

    def _fetch(
        self, leases: list[protocol.TrialLease], deadline: float, stack: ExitStack
    ) -> messages.Pack | None:
        """Bring the files of a pack, however long the server is away; None where it was in vain."""
        while self._outbox.running and not self._signals:
            try:
                data, holdout = self._cache.fetch(self._client, leases[0], stack)
            except _AWAY as error:
                if time.monotonic() > deadline:
                    self._fail("timeout", f"The data did not come in time: {error}")
                self._pause(self._backoff.after(error))
            except _UNWELCOME:
                raise
            except errors.HpoError as error:
                self._fail("error", f"The data cannot be had: {error}")
            except OSError as error:
                raise Halt(f"the data cannot be stored: {error}") from error
            else:
                self._backoff.reset()
                return messages.Pack(
                    leases=leases, data=data, holdout=holdout, artifacts=str(self._spools)
                )
        return None

    def _supervise(self, deadline: float, too_late: str) -> None:
        """See the pack through until the server has heard all of it, or a signal comes."""
        wanted = time.monotonic()
        while self._busy or len(self._outbox):
            if self._signals:
                self._wind_down()
                return
            self._next(self._until_flush())
            now = time.monotonic()
            if self._outbox.waiting and now >= self._flush_at:
                self._flush()
            if not self._busy or self._outbox.running:
                wanted = now
            if self._busy and (now > deadline or now > wanted + DROP_SECONDS):
                self._fail("timeout", too_late)
                self._restart_trainer()

    def _until_flush(self) -> float:
        if not self._outbox.waiting:
            return TICK_SECONDS
        return min(TICK_SECONDS, self._flush_at - time.monotonic())

    def _wind_down(self) -> None:
        """Let the epoch end, or not even that after a second signal."""
        log.info("stopping after this epoch")
        for lease_id in self._outbox.running:
            self._forward(lease_id, protocol.Decision(action="stop"))
        limit = time.monotonic() + EPOCH_SECONDS
        while self._busy and len(self._signals) < 2 and time.monotonic() < limit:
            self._next(limit - time.monotonic())

    def _fail(self, reason: str, message: str) -> None:
        for lease_id in self._outbox.running:
            self._outbox.fail(lease_id, reason, message)

    # --- the training process ---------------------------------------------------------------

    def _start_trainer(self) -> None:
        options = self._options
        self._ready = self._busy = False
        try:
            self._trainer = Trainer(
                options.device, options.threads, options.objective, self._on_heard
            )
        except OSError as error:
            raise Halt(f"the training process cannot be started: {error}") from error

    def _restart_trainer(self) -> None:
        if self._trainer is not None:
            self._trainer.kill()
        self._start_trainer()

    def _wait_for_trainer(self) -> None:
        """No lease is taken before the child can train: a broken machine must not fail trials."""
        limit = time.monotonic() + START_SECONDS
        while not self._ready and not self._signals:
            if time.monotonic() > limit:
                raise Halt(f"the training process did not start in {START_SECONDS:g} seconds")
            self._next(limit - time.monotonic())

    def _tell_child(self, message: messages.Pack | messages.Judged) -> None:
        if self._trainer is not None:
            self._trainer.send(message)

    def _forward(self, lease_id: str, decision: protocol.Decision) -> None:
        self._tell_child(messages.Judged(lease_id=lease_id, decision=decision))

    def _on_exit(self, trainer: Trainer) -> None:
        """The child has died. One trial: it was that. Several: give them back, try each alone."""
        if self._signals:
            self._busy = False
            return
        if not self._ready:
            raise Halt("the training process does not start: see its messages above")
        reason, message = trainer.ending()
        running = self._outbox.running if self._busy else []
        if len(running) == 1:
            self._fail(reason, message)
        elif running:
            log.warning("%s: %s", self._outbox.labels, message)
            self._alone = len(running)
            for lease_id in running:
                self._outbox.release(lease_id)
        self._restart_trainer()

    # --- events -----------------------------------------------------------------------------

    def _on_fate(self, lease_id: str, fate: protocol.Fate) -> None:
        self._inbox.put(_Fate(lease_id, fate))

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
            case _Heard(trainer, None) if trainer is self._trainer:
                self._on_exit(trainer)
            case _Heard(trainer, message) if trainer is self._trainer and message is not None:
                self._hear(message)

    def _hear(self, message: messages.FromChild) -> None:
        match message:
            case messages.Ready(device=device):
                self._ready, self._heart.device = True, device
            case messages.Broken(message=text):
                raise Halt(f"the training process cannot work: {text}")
            case messages.Done():
                self._busy = False
            case messages.Told(tell=tell) if self._signals and tell.state != "complete":
                pass  # cut short by us: it will be released
            case messages.Reported() | messages.Stored() | messages.Kept():
                self._outbox.put(message)
            case messages.Told():
                self._outbox.put(message)
                if not self._backoff.failures:
                    self._flush_at = 0.0

    # --- speaking to the server -------------------------------------------------------------

    def _flush(self) -> None:
        try:
            self._outbox.flush()
        except _AWAY as error:
            self._flush_at = time.monotonic() + self._backoff.after(error)
            self._failures += isinstance(error, errors.ServerError)
            if self._failures >= MAX_FAILURES and not self._busy:
                log.error("%s: left in the spool: %s", self._outbox.labels, error)
                self._failures = 0
                self._outbox.close()
        else:
            self._backoff.reset()
            self._failures = 0
            self._flush_at = time.monotonic() + FLUSH_SECONDS
        self._heart.hold(self._outbox.lease_ids)


def _time_limit(lease: protocol.TrialLease) -> float:
    objective = lease.objective
    return objective.time_limit if isinstance(objective, protocol.TrainObjective) else TIME_LIMIT
