"""How a worker is to work, and what ends it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workers.work import Precision


class Halt(Exception):
    """The worker cannot go on; the message is for its user."""


@dataclass(frozen=True)
class Options:
    """How a worker works. `name` is unique to the process, `pack` the trials trained together.

    With `refill` a pack gets new trials as soon as some of its own have ended; without it the
    tells of a pack go out together, in the order of its trials, for exact repetition. New trials
    that are leased together are to be `alike`, so many in a row, so that they train in one pass.
    `objective` is the function `module:name` that the child runs, see `workers.work`. With
    `function`, the `module:name` of a user's own, it makes the one that the child runs.
    `objectives` are what to lease trials for, see `protocol.ability`.
    """

    name: str
    cache: Path
    study: str | int | None = None
    once: bool = False
    pack: int = 1
    refill: bool = True
    alike: int = 1
    device: str = "auto"
    threads: int = 1
    precision: Precision = "full"
    objective: str = "workers.objective:run"
    function: str | None = None
    objectives: tuple[str, ...] = ("train",)

    @property
    def does(self) -> str:
        """What it works at, in a few words."""
        return f"{self.function} for {', '.join(self.objectives)}" if self.function else "training"
