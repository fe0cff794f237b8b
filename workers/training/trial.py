"""A leased setting on its way: its curve, its rates, where it goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpo_service import catalog, protocol
from workers.training.curve import Curve
from workers.training.lanes import State
from workers.training.schedules import SCHEDULES, plateau_drops


@dataclass(frozen=True)
class Trial:
    """One trial of at most `epochs`; `states` are those of its lanes after `resumed` epochs."""

    lease: protocol.TrialLease
    family: catalog.Family
    settings: Any
    curve: Curve
    epochs: int
    resumed: int = 0
    states: Sequence[State] = ()

    @property
    def inner(self) -> bool:
        """Whether some training rows are set aside to stop by."""
        return sets_aside(self.settings)

    @property
    def ensemble(self) -> bool:
        """Whether the predictions of the restarts are averaged before they are scored."""
        return bool(self.settings.restarts > 1 and self.settings.restart_score == "ensemble")

    def factor(self, epoch: int) -> float:
        """What the learning rate is multiplied by in the epoch of this index."""
        return rate_factor(self.settings, epoch, self.epochs, self.drops(epoch))

    def drops(self, epochs: int | None = None) -> list[int]:
        """After which epochs the rate dropped on a plateau of the mean curve."""
        if getattr(self.settings, "schedule", "constant") != "plateau":
            return []
        watched = [point.watched for point in self.curve.points[:epochs]]
        return plateau_drops(watched, self.curve.direction, self.settings.schedule_epochs)

    def steps_left(self, epoch: int, rows: int) -> int | None:
        """Steps that a lane with so many rows may take in this epoch; None: all of them."""
        return steps_left(self.settings, epoch, rows)


def rate_factor(settings: Any, epoch: int, epochs: int, drops: Sequence[int]) -> float:
    """What the learning rate is multiplied by in the epoch of this index, of `epochs` at most."""
    return SCHEDULES[settings.schedule](settings, epoch, epochs, drops)


def steps_left(settings: Any, epoch: int, rows: int) -> int | None:
    """Steps that a network with so many training rows may take in this epoch; None: all."""
    if settings.iterations is None:
        return None
    return max(0, int(settings.iterations) - epoch * -(-rows // int(settings.batch_size)))


def horizon(settings: Any, counts: Sequence[int]) -> int:
    """Epochs at most: as set, or as many as the iterations need on parts with so many rows."""
    if settings.iterations is None:
        return int(settings.epochs)
    return int(-(-settings.iterations // -(-min(counts) // settings.batch_size)))


def sets_aside(settings: Any) -> bool:
    """Whether a network with these settings stops by training rows that are set aside."""
    return getattr(settings, "early_stopping", "mean") == "inner"
