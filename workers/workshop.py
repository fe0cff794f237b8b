"""The training process and the leases that it has: started, filled up, watched, replaced."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from hpo_service import errors, protocol
from workers import messages
from workers.fetching import Fetching
from workers.options import Halt, Options
from workers.outbox import Outbox
from workers.refill import Refill
from workers.trainer import Heard, Trainer
from workers.underway import Underway, time_limit

log = logging.getLogger("hpo.worker")


class Workshop:
    """One training process at a time. All calls come from the agent's one thread.

    `heard` gets what the process says; `opened` is told of leases that were added to a pack.
    """

    def __init__(
        self,
        options: Options,
        outbox: Outbox,
        fetching: Fetching,
        refill: Refill,
        heard: Heard,
        opened: Callable[[list[protocol.TrialLease]], None],
    ) -> None:
        self._options, self._outbox = options, outbox
        self._fetching, self._refill = fetching, refill
        self._heard, self._opened = heard, opened
        self._trainer: Trainer | None = None
        self._underway: Underway | None = None
        self._aside: list[protocol.TrialLease] = []  # leases that did not fit the pack
        self.ready = False  # the process has loaded its objective
        self.alone = 0  # trials still to be run one by one after a pack died

    @property
    def busy(self) -> bool:
        """Whether the process works on a pack."""
        return self._underway is not None and self._underway.busy

    @property
    def aside(self) -> list[protocol.TrialLease]:
        """Leases that are held for the next pack."""
        return self._outbox.still_running(self._aside)

    def take_aside(self) -> list[protocol.TrialLease]:
        """Leases that are held for the next pack, which is this one."""
        leases, self._aside = self.aside, []
        return leases

    # --- the process ------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process; `Halt` where the system refuses."""
        options = self._options
        self.ready = False
        try:
            self._trainer = Trainer(options, self._heard)
        except OSError as error:
            raise Halt(f"the training process cannot be started: {error}") from error

    def close(self) -> None:
        """End the process at once."""
        self._underway = None
        if self._trainer is not None:
            self._trainer.kill()

    def is_current(self, trainer: Trainer) -> bool:
        """Whether this is the process of now, and not one that was replaced."""
        return trainer is self._trainer

    def forward(self, lease_id: str, decision: protocol.Decision) -> None:
        """Tell the process what was decided of a lease."""
        self._send(messages.Judged(lease_id=lease_id, decision=decision))

    def _send(self, message: messages.ToChild) -> None:
        if self._trainer is not None:
            self._trainer.send(message)

    # --- a pack -----------------------------------------------------------------------------

    def begin(self, pack: messages.Pack, width: int, since: float) -> None:
        """Have a pack trained; where packs are refilled it has up to `width` leases."""
        self._underway = Underway(pack, width, since)
        self._send(pack)

    def told(self, lease_id: str) -> None:
        """The process has told how a lease ended."""
        if self._underway is not None:
            self._underway.told(lease_id)

    def done(self, lease_ids: list[str]) -> None:
        """The objective has returned from these leases."""
        if self._underway is not None:
            self._underway.done(lease_ids)

    def see_to_pack(self, *, refill: bool) -> None:
        """Let no lease take longer than it may, and fill the places of those that have ended."""
        underway, now = self._underway, time.monotonic()
        if underway is None or not underway.busy:
            return
        late = underway.late(now)
        for lease_id in set(self._outbox.running).intersection(late):
            limit = time_limit(underway.lease(lease_id))
            message = f"The attempt took longer than its {limit:g} seconds."
            self._outbox.fail(lease_id, "timeout", message)
            self.forward(lease_id, protocol.Decision(action="stop"))
        wanted = underway.wanted(self._outbox.running)
        if underway.hangs(wanted, now):
            self.close()
            self._try_alone(wanted, "the training process hangs")
            self.start()
        elif wanted and not late and refill and self._options.refill:
            self._refill_pack(underway)

    def _refill_pack(self, underway: Underway) -> None:
        """Ask for new leases of the study in place of those that have ended, tells answered."""
        pack = underway.pack
        # Rows held out are for one trial alone, and a process short of memory gets no more.
        if self._aside or pack.holdout or pack.lanes:
            return
        leases = self._refill.ask(underway.width - len(self._outbox), pack.leases[0].study_id)
        if leases:
            self._opened(leases)
            self._add(underway, leases)

    def _add(self, underway: Underway, leases: list[protocol.TrialLease]) -> None:
        """Send the leases that fit the pack's files; the others are the next pack."""
        data = underway.pack.leases[0].data
        fitting = [lease for lease in leases if lease.kind != "final" and lease.data == data]
        try:
            more = self._fetching.more(fitting)
        except (errors.Unavailable, errors.ServerError, OSError) as error:
            log.warning("these trials wait for the next pack: %s", error)
            more = messages.More(leases=[])
        sent = {lease.lease_id for lease in more.leases}
        self._aside = [lease for lease in leases if lease.lease_id not in sent]
        if more.leases:
            underway.add(more.leases, time.monotonic())
            self._send(more)

    # --- the end of the process -------------------------------------------------------------

    def ended(self, trainer: Trainer) -> None:
        """The process has died. One trial: it was that. Several: give them back, try each alone."""
        underway, self._underway = self._underway, None
        if not self.ready:
            raise Halt("the training process does not start: see its messages above")
        reason, message = trainer.ending()
        self.close()
        self.start()
        if underway is None:
            return
        wanted = underway.wanted(self._outbox.running)
        if len(wanted) > 1:
            self._try_alone(wanted, message)
        elif wanted and reason == "oom" and self._may_retry(underway, wanted[0]):
            log.warning("%s: %s", self._outbox.labels, message)
            self._retry(underway, wanted[0])
        elif wanted:
            self._outbox.fail(wanted[0], reason, message)

    def _try_alone(self, lease_ids: list[str], message: str) -> None:
        """Give these back; the agent then leases one at a time until as many have run."""
        if not lease_ids:
            return
        log.warning("%s: %s", self._outbox.labels, message)
        self.alone = len(lease_ids)
        for lease_id in lease_ids:
            self._outbox.release(lease_id)

    def _may_retry(self, underway: Underway, lease_id: str) -> bool:
        return not underway.pack.lanes and not self._outbox.is_pruned(lease_id)

    def _retry(self, underway: Underway, lease_id: str) -> None:
        """Once more with as little memory as can be, from the newest checkpoint that is here."""
        resumed = self._fetching.resumed([underway.lease(lease_id)])
        changed = {"leases": resumed.leases, "checkpoints": resumed.checkpoints, "lanes": 1}
        underway.again(underway.pack.model_copy(update=changed))
        self._underway = underway
        self._send(underway.pack)
