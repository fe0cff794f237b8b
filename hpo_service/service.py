"""What one server process holds: settings, database, files, samplers, pulse."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import timedelta

from hpo_service.artifacts import Blobs
from hpo_service.database import Database
from hpo_service.pulse import Pulse
from hpo_service.settings import Settings
from hpo_service.storage import Storage
from hpo_service.suggest import Searches

LEASES_AT_ONCE = 12


@dataclass(frozen=True)
class Service:
    """Made once by `create_app`, handed to the routes."""

    settings: Settings
    database: Database
    blobs: Blobs
    searches: Searches
    storage: Storage
    pulse: Pulse
    # Set when the server is about to stop: no new leases, all else goes on to its end.
    draining: threading.Event = field(default_factory=threading.Event)
    lease_slots: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(LEASES_AT_ONCE)
    )

    @property
    def ttl(self) -> timedelta:
        """How long a lease lives without a heartbeat."""
        return timedelta(seconds=self.settings.lease_ttl)
