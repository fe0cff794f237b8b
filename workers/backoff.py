"""How long to wait before asking again."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.5
MOST_SECONDS = 30.0


class Backoff:
    """Exponential back-off with full jitter, so that many workers do not come back at once.

    Marc Brooker: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(self, most: float = MOST_SECONDS) -> None:
        self.most = most
        self.failures = 0

    def next(self, retry_after: float | None = None) -> float:
        """Seconds to wait after one more failure; what the server asked for, where it did."""
        self.failures += 1
        if retry_after is not None:
            return min(retry_after, self.most) * random.uniform(1.0, 1.2)
        return random.uniform(0, min(self.most, FIRST_SECONDS * 2 ** min(self.failures - 1, 10)))

    def reset(self) -> None:
        """It worked: begin anew."""
        self.failures = 0
