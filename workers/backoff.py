"""How long to wait before asking again."""

from __future__ import annotations

import logging
import random

from hpo_service import errors

FIRST_SECONDS = 0.5
MOST_SECONDS = 30.0

log = logging.getLogger("hpo.worker")


class Backoff:
    """Exponential back-off with full jitter, so that many workers do not come back at once.

    Marc Brooker: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Unless `quiet`,
    the begin and the end of a bad time are logged, a line each.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.failures = 0
        self._quiet = quiet

    def after(self, error: errors.HpoError) -> float:
        """Seconds to wait after one more failure; what the server asked for, where it did."""
        if not self.failures and not self._quiet:
            log.warning("trying again until it works: %s", error)
        self.failures += 1
        if error.retry_after is not None:
            return min(error.retry_after, MOST_SECONDS) * random.uniform(1.0, 1.2)
        return random.uniform(0, min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(self.failures - 1, 10)))

    def reset(self) -> None:
        """It worked: begin anew."""
        if self.failures and not self._quiet:
            log.info("the server answers again")
        self.failures = 0
