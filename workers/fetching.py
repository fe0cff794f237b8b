"""What a pack needs before it can be trained: its data, and the checkpoints it goes on from."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from pathlib import Path

from hpo_service import errors, protocol
from hpo_service.client import Client
from workers import messages
from workers.cache import Cache
from workers.outbox import Outbox

log = logging.getLogger("hpo.worker")

# Not about the file: ask again, or not at all.
_UNSETTLED = (errors.Unavailable, errors.ServerError, errors.Unauthorized, errors.Forbidden)


class Fetching:
    """Brings files, where they are not there already; `folder` is where the spools are."""

    def __init__(self, client: Client, cache: Path, folder: Path, outbox: Outbox) -> None:
        self._client, self._folder, self._outbox = client, folder, outbox
        self._cache = Cache(cache)

    def pack(self, leases: list[protocol.TrialLease], stack: ExitStack) -> messages.Pack:
        """The leases with all their files; those of held-out rows are deleted with `stack`."""
        data, holdout = self._cache.fetch(self._client, leases[0], stack)
        predictions = self._cache.fetch_predictions(self._client, leases[0], stack)
        more = self.more(leases)
        return messages.Pack(
            leases=more.leases,
            data=data,
            holdout=holdout,
            predictions=predictions,
            artifacts=str(self._folder),
            checkpoints=more.checkpoints,
        )

    def more(self, leases: list[protocol.TrialLease]) -> messages.More:
        """The leases with their checkpoints; a lease whose checkpoint is gone begins anew."""
        for lease in leases:
            if lease.resume_step and self._outbox.kept(lease.lease_id) is None:
                self._bring(lease)
        return self.resumed(leases)

    def resumed(self, leases: list[protocol.TrialLease]) -> messages.More:
        """The leases as they go on from the newest checkpoints that are here."""
        found = {i: kept for i in _ids(leases) if (kept := self._outbox.kept(i))}
        steps = {i: kept.step for i, kept in found.items()}
        return messages.More(
            leases=[
                lease.model_copy(update={"resume_step": steps.get(lease.lease_id, 0)})
                for lease in leases
            ],
            checkpoints={i: kept.path for i, kept in found.items()},
        )

    def _bring(self, lease: protocol.TrialLease) -> None:
        step, path = lease.resume_step, self._folder / f"{lease.lease_id}.checkpoint"
        try:
            data = self._client.artifact(lease.lease_id, protocol.CHECKPOINT)
        except _UNSETTLED:
            raise
        except errors.HpoError as error:
            log.warning("%s %s begins anew: %s", lease.study, lease.number, error)
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
        self._outbox.resume(messages.Kept(lease_id=lease.lease_id, step=step, path=str(path)))


def _ids(leases: list[protocol.TrialLease]) -> list[str]:
    return [lease.lease_id for lease in leases]
