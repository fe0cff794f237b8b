"""The heartbeat: a thread of its own, in a process that never trains."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from hpo_service import errors, protocol
from hpo_service.client import Client
from workers.backoff import Backoff

BEATS_PER_TTL = 4
SPREAD = 0.2  # share by which each interval varies
IDLE_TTL = 60.0  # seconds; sets the pace until the first lease says otherwise

log = logging.getLogger("hpo.worker")


class Heart:
    """Renews all leases of this worker with one call every quarter of their time to live.

    `on_fate` hears of leases that are lost or to be stopped, `on_refused` that the token is no
    longer welcome; both are called from the heart's thread.
    """

    def __init__(
        self,
        client: Client,
        worker: str,
        on_fate: Callable[[str, protocol.Fate], None],
        on_refused: Callable[[errors.HpoError], None],
    ) -> None:
        self.device = "cpu"
        self._client, self._worker = client, worker
        self._on_fate, self._on_refused = on_fate, on_refused
        self._lease_ids: list[str] = []
        self._ttl = IDLE_TTL
        self._backoff = Backoff(quiet=True)
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def start(self) -> None:
        """Register the worker and begin."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more; a call on its way is not waited for."""
        self._stopped.set()
        self._wake.set()

    def hold(self, lease_ids: list[str], ttl: float | None = None) -> None:
        """From now on renew these leases, which live for `ttl` seconds."""
        self._lease_ids = lease_ids
        if ttl is not None and ttl != self._ttl:
            self._ttl = ttl
            self._wake.set()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopped.is_set():
            if time.monotonic() >= due:
                due = time.monotonic() + self._beat()
            self._wake.wait(max(0.0, due - time.monotonic()))
            if self._wake.is_set():  # the time to live has changed
                self._wake.clear()
                due = min(due, time.monotonic() + self._interval())

    def _interval(self) -> float:
        return self._ttl / BEATS_PER_TTL * random.uniform(1 - SPREAD, 1 + SPREAD)

    def _beat(self) -> float:
        """Beat once; the seconds to wait for the next one. No failure ends the loop."""
        beat = protocol.Beat(device=self.device, lease_ids=self._lease_ids)
        try:
            fates = self._client.beat(self._worker, beat).leases
        except (errors.Unauthorized, errors.Forbidden) as error:
            self._on_refused(error)
        except Exception as error:
            if not isinstance(error, errors.Unavailable):
                log.warning("heartbeat failed: %s", error)
            known = error if isinstance(error, errors.HpoError) else errors.ServerError()
            return min(self._backoff.after(known), self._interval())
        else:
            for lease_id, fate in fates.items():
                if fate != "held":
                    self._on_fate(lease_id, fate)
        self._backoff.reset()
        return self._interval()
