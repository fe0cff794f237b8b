"""What a user's own function is given: a trial's parameters, its data, and a way to report.

def objective(trial):
    for epoch in range(trial.params["epochs"]):
        ...
        if trial.report(epoch + 1, score):  # True: there is no use in going on
            break
    return score
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hpo_service import catalog, protocol
from workers.work import Channel, Work

if TYPE_CHECKING:
    from workers.data.dataset import Dataset
    from workers.data.folds import Rows

CHECKPOINT_SECONDS = 30.0  # between two checkpoints that are kept


class Trial:
    """One trial, for the function that evaluates it.

    `params`: the proposed and the fixed parameters by name. `number`: which trial of the study.
    `seed`: its own randomness, 0 to 2**32 - 1, the same in every attempt. `device` (`cpu`, `cuda`
    or `cuda:N`) and `threads` are those that the worker was started with.
    """

    def __init__(self, lease: protocol.TrialLease, work: Work, channel: Channel) -> None:
        assert isinstance(lease.objective, protocol.CustomObjective)  # what we ask the server for
        self._lease, self._objective = lease, lease.objective
        self._work, self._channel = work, channel
        self._reported: dict[int, list[float]] = {}
        self._step = 0  # the last one reported
        self._warned = False  # the function knows that there is no use in going on
        self._kept_at = time.monotonic()
        self.params: dict[str, Any] = {catalog.plain(n): v for n, v in lease.params.items()}
        self.number = lease.number or 0
        self.seed = lease.seed % 2**32
        self.device, self.threads = work.device, work.threads

    # --- data -------------------------------------------------------------------------------

    @cached_property
    def data(self) -> Dataset:
        """The search part of the study's data set: arrays `numeric`, `categorical` and `target`
        with a row per example, and `schema`, which says what they mean.

        Raises `ValueError` where the study names no data set.
        """
        # Loaded here: a function without a data set has no need of it.
        from workers.data import dataset

        if self._work.data is None:
            raise ValueError("the study names no data set: set objective.dataset")
        return dataset.read(self._work.data)

    def folds(self) -> Iterator[tuple[Rows, Rows]]:
        """(training rows, validation rows) of each fold in the order (repeat, fold), as indices
        into the arrays of `data`: scikit-learn's own folds, the same in every trial.
        """
        from workers.data.folds import splits

        return splits(self.data, self._objective.validation, self._lease.study_seed)

    # --- on the way -------------------------------------------------------------------------

    def report(
        self,
        step: int,
        value: float | Sequence[float],
        folds: Sequence[float] | Sequence[Sequence[float]] = (),
    ) -> bool:
        """Report the value after a step; True where there is no use in going on: return then.

        Steps are counted from 1 and go up. `folds` are the values of each fold, for plots. Does
        not wait for the server: what it decides is known at a later step.
        """
        self._check_step(step)
        values = self._values(value, f"step {step}: the value reported")
        report = protocol.Report(
            lease_id=self._lease.lease_id,
            step=operator.index(step),
            values=_finite(values),
            folds=[_finite(each) for each in self._folds(folds)],
        )
        self._step, self._reported[report.step] = report.step, values
        self._channel.report(report)
        return self.should_stop

    @property
    def should_stop(self) -> bool:
        """Whether there is no use in going on: pruned, cancelled, or the worker is to end."""
        self._warned = self._warned or self._decision() is not None
        return self._warned

    def checkpoint(self, state: bytes) -> None:
        """Keep the state after the step reported last, for another attempt to `resume` from.

        To be called after `report` and before returning; of frequent calls one in half a minute
        counts.
        """
        if not self._step:
            raise ValueError("report a step before its checkpoint")
        now = time.monotonic()
        if self._warned or now - self._kept_at >= CHECKPOINT_SECONDS:
            self._channel.checkpoint(self._lease.lease_id, self._step, state)
            self._kept_at = now

    def resume(self) -> tuple[int, bytes] | None:
        """The last step of an earlier attempt and the state after it, to go on with the next step;
        None where there is nothing to go on from.
        """
        path = self._work.checkpoints.get(self._lease.lease_id)
        return None if path is None else (self._lease.resume_step, path.read_bytes())

    # --- the end, for the worker --------------------------------------------------------------

    def cut_short(self) -> protocol.Tell | None:
        """How a trial ends that was not to go on; None where the function came to its end."""
        decision = self._decision()
        if decision is None:
            return None
        if decision.action == "prune" and self._step:
            step = decision.step if decision.step in self._reported else self._step
            values = _finite(self._reported[step or self._step])
            return protocol.Tell(state="pruned", values=values, epoch=step)
        if not self._warned:
            return None
        error = protocol.TrialError(reason="stopped", message=f"the server said {decision.action}")
        return protocol.Tell(state="fail", error=error)

    def complete(self, answer: object) -> protocol.Tell:
        """The trial with what the function returned.

        Raises `TypeError` or `ValueError` where that is not what the study asks for, and
        `ArithmeticError` where it is not finite.
        """
        if answer is None:
            raise TypeError(f"{self._objective.name} returned nothing: end it with return VALUE")
        values = self._values(answer, f"what {self._objective.name} returned")
        if not all(map(math.isfinite, values)):
            raise ArithmeticError(f"{self._objective.name} returned {answer!r}")
        # The step that these values are of, if it is one.
        steps = [step for step, reported in self._reported.items() if reported == values]
        return protocol.Tell(
            state="complete", values=_finite(values), epoch=steps[-1] if steps else None
        )

    # --- checks -------------------------------------------------------------------------------

    def _decision(self) -> protocol.Decision | None:
        return self._channel.decision(self._lease.lease_id)

    def _check_step(self, step: int) -> None:
        if isinstance(step, bool) or not hasattr(step, "__index__"):
            raise TypeError(f"a step is a whole number, not {step!r}")
        if step < 1:
            raise ValueError(f"step {step}: steps are counted from 1, as in report(epoch + 1, ...)")
        if step <= self._step:
            raise ValueError(f"step {step} comes after step {self._step}: steps go up")

    def _values(self, given: object, what: str) -> list[float]:
        """One number per direction of the study."""
        several = isinstance(given, list | tuple)
        values = [_number(each, what) for each in (given if several else [given])]  # type: ignore[attr-defined]
        needed = len(self._objective.directions)
        if len(values) != needed:
            raise ValueError(
                f"{what}: {len(values)} number{'s' * (len(values) != 1)}, but the study has "
                f"{needed} direction{'s' * (needed != 1)}"
            )
        return values

    def _folds(self, given: Sequence[Any]) -> list[list[float]]:
        """A list per direction."""
        nested = any(isinstance(each, list | tuple) for each in given)
        lists = given if nested else [given] if len(given) else []
        if lists and len(lists) != len(self._objective.directions):
            raise ValueError("folds: give a list of values for each direction of the study")
        return [[_number(value, "folds") for value in each] for each in lists]


def _number(given: object, what: str) -> float:
    if isinstance(given, bool) or not hasattr(given, "__float__"):
        raise TypeError(f"{what} is no number but {type(given).__name__}: {given!r:.100}")
    return float(given)


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
