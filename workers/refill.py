"""New leases for a pack of which a part has ended."""

from __future__ import annotations

import time

from hpo_service import errors, protocol
from workers.backoff import Backoff
from workers.leasing import IDLE_SECONDS, MAX_IDLE_SECONDS, Leasing

ASK_SECONDS = 3.0  # for an answer: what comes later is asked for again, under the same ids


class Refill:
    """Asks once at a time and never waits: the pack under way is more urgent."""

    def __init__(self, leasing: Leasing) -> None:
        self._leasing = leasing
        self._backoff = Backoff(quiet=True)
        self._ask_at = 0.0

    def ask(self, count: int, study_id: int) -> list[protocol.TrialLease]:
        """Up to `count` leases of the study, where it is time to ask again."""
        if count < 1 or time.monotonic() < self._ask_at:
            return []
        pause = 0.0
        try:
            answer = self._leasing.ask(count, study_id, ASK_SECONDS)
        except (errors.Unauthorized, errors.Forbidden):
            raise
        except errors.HpoError as error:
            answer, pause = protocol.Leases(leases=[], retry_after=None), self._backoff.after(error)
        else:
            self._backoff.reset()
            if len(answer.leases) < count:
                pause = answer.retry_after or IDLE_SECONDS
        self._ask_at = time.monotonic() + min(pause, MAX_IDLE_SECONDS)
        return answer.leases
