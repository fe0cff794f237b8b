"""Asking for work, under lease ids of our own making."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from hpo_service import errors, protocol
from hpo_service.client import READ_TIMEOUT, Client
from workers.options import Options

IDLE_SECONDS = 1.0  # between requests for a lease where the server names no pause
MAX_IDLE_SECONDS = 60.0


class Leasing:
    """Keeps the ids: one that was never leased is sent again, one that was is never used again."""

    def __init__(self, client: Client, options: Options) -> None:
        self._client, self._worker, self._study = client, options.name, options.study
        self._objectives, self._alike = list(options.objectives), options.alike
        self._unused: list[str] = []
        self._unanswered: list[str] = []  # may have been leased, in an answer that got lost

    def ask(
        self, count: int, study: int | None = None, timeout: float = READ_TIMEOUT
    ) -> protocol.Leases:
        """Up to `count` leases, all of one study; where the call fails, the ids are kept.

        An answer that took more than `timeout` seconds is given to the next call, whole.
        """
        self._unused += [str(uuid.uuid4()) for _ in range(count - len(self._unused))]
        ids = self._unused[:count]
        request = protocol.LeaseRequest(
            worker=self._worker,
            lease_ids=ids,
            study=study or self._study,
            objectives=self._objectives,
            alike=self._alike,
        )
        self._unanswered = ids
        try:
            answer = self._client.lease(request, timeout)
        except errors.LeaseLost:  # leased in an answer that got lost, and ended since
            self._unused, self._unanswered = self._unused[count:], []
            return protocol.Leases(leases=[], retry_after=None)
        leases = [lease for lease in answer.leases if lease.lease_id in ids]
        granted = {lease.lease_id for lease in leases}
        self._unused = [lease_id for lease_id in self._unused if lease_id not in granted]
        self._unanswered = []
        return protocol.Leases(leases=leases, retry_after=answer.retry_after)

    def nothing_left(self) -> bool:
        """Whether none of the studies that this worker serves will have work again by itself."""
        if self._study is not None:
            return self._client.study(self._study).state == "finished"
        return not any(self._has_work(study) for study in self._studies())

    def give_back(self) -> None:
        """Release what may have been leased without our knowing."""
        for lease_id in self._unanswered:
            with contextlib.suppress(errors.Conflict, errors.NotFound):
                self._client.release(lease_id)

    def _studies(self) -> Iterator[protocol.Study]:
        after: int | None = 0
        while after is not None:
            page = self._client.studies(after=after)
            yield from page.studies
            after = page.next

    def _has_work(self, study: protocol.Study) -> bool:
        if study.spec is None or study.state not in ("running", "finishing"):
            return False
        return protocol.ability(study.spec.objective) in self._objectives
