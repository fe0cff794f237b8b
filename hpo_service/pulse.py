"""The freeze guard: notices that this process stood still, when no heartbeat could reach it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BEATS_PER_TTL = 10
LATE = 0.5  # of a TTL: the process was frozen
CLOCKS_APART = 0.25  # of a TTL: the wall clock was moved, or the machine slept


class Pulse:
    """A thread that beats ten times per TTL; a late beat means that leases expired unjustly.

    While `freeze` is not None, whoever claims must first extend all live leases by a TTL, claim
    no expired one, and then `clear` the freeze it saw. A new process starts with one: it cannot
    know how long the server was away.
    """

    def __init__(
        self,
        ttl: float,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.ttl = ttl
        self._monotonic, self._wall = monotonic, wall
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._freezes = 1
        self._cleared = 0
        self._last = (monotonic(), wall())

    def start(self) -> None:
        self._stop.clear()
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def beat(self) -> None:
        """Look at the clocks and note whether time went missing since the last look."""
        with self._lock:
            monotonic, wall = self._monotonic(), self._wall()
            elapsed = monotonic - self._last[0]
            drift = abs((wall - self._last[1]) - elapsed)
            if elapsed > LATE * self.ttl or drift > CLOCKS_APART * self.ttl:
                self._freezes += 1
            self._last = (monotonic, wall)

    @property
    def freeze(self) -> int | None:
        """The freeze that was not dealt with yet, if any."""
        self.beat()
        return self._freezes if self._freezes > self._cleared else None

    def clear(self, freeze: int) -> None:
        """The leases were extended after this freeze."""
        with self._lock:
            self._cleared = max(self._cleared, freeze)

    def _run(self) -> None:
        while not self._stop.wait(self.ttl / BEATS_PER_TTL):
            self.beat()
