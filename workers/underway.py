"""The leases that the training process has, and for how long each of them may take."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from hpo_service import protocol
from workers import messages

DROP_SECONDS = 10.0  # for the training to notice that nobody wants a lease any more
TIME_LIMIT = 3600.0  # per attempt, where the objective names none


def time_limit(lease: protocol.TrialLease) -> float:
    """Seconds that an attempt may take; a final one, for each model that it may refit."""
    objective = lease.objective
    if isinstance(objective, protocol.ExternalObjective):
        return TIME_LIMIT
    return objective.time_limit * (1 + len(lease.members))


@dataclass
class Underway:
    """A pack that was sent to the training process, and what was added to it since.

    All times are those of `time.monotonic`; `since` is when the pack's own leases began.
    """

    pack: messages.Pack
    width: int  # how many leases it is to have, where it is refilled
    since: float
    _deadlines: dict[str, float] = field(default_factory=dict)
    _leases: dict[str, protocol.TrialLease] = field(default_factory=dict)
    _untold: set[str] = field(default_factory=set)
    _wanted_at: float = 0.0

    def __post_init__(self) -> None:
        self._wanted_at = self.since
        self.add(self.pack.leases, self.since)

    @property
    def busy(self) -> bool:
        """Whether the objective has not yet returned from all of them."""
        return bool(self._leases)

    def add(self, leases: list[protocol.TrialLease], now: float) -> None:
        """Leases were sent to the training process."""
        for lease in leases:
            self._leases[lease.lease_id] = lease
            self._deadlines[lease.lease_id] = now + time_limit(lease)
            self._untold.add(lease.lease_id)

    def again(self, pack: messages.Pack) -> None:
        """The leases of this pack go to a new training process; their time runs on."""
        self.pack = pack
        self._leases = {lease.lease_id: lease for lease in pack.leases}
        self._untold = set(self._leases)

    def told(self, lease_id: str) -> None:
        """The training process has told how a lease ended."""
        self._untold.discard(lease_id)

    def done(self, lease_ids: Collection[str]) -> None:
        """The objective has returned from these leases."""
        for lease_id in lease_ids:
            self._leases.pop(lease_id, None)
            self._untold.discard(lease_id)

    def lease(self, lease_id: str) -> protocol.TrialLease:
        """A lease that the training process has."""
        return self._leases[lease_id]

    def wanted(self, running: list[str]) -> list[str]:
        """Those of the running attempts that the training process is at."""
        return [lease_id for lease_id in running if lease_id in self._untold]

    def late(self, now: float) -> list[str]:
        """Leases that were not told in their time."""
        return sorted(i for i in self._untold if now > self._deadlines[i])

    def hangs(self, wanted: list[str], now: float) -> bool:
        """Whether to wait no longer: some lease is late and stays so, or nobody wants any of them.

        While others are wanted, a late lease gets some seconds to leave them in peace.
        """
        late = self.late(now)
        if late and not wanted:
            return True
        if any(now > self._deadlines[lease_id] + DROP_SECONDS for lease_id in late):
            return True
        if wanted:
            self._wanted_at = now
        return now > self._wanted_at + DROP_SECONDS
