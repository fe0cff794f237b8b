"""How an attempt ended, as it is told to the server; not-finite numbers become null."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpo_service import errors, protocol
from workers.training import devices
from workers.training.curve import Point

LONGEST_MESSAGE = 4000


def report(lease_id: str, point: Point) -> protocol.Report:
    """A finished step."""
    return protocol.Report(
        lease_id=lease_id,
        step=point.step,
        values=_all(point.values),
        folds=[_all(folds) for folds in point.folds],
        train_folds=_all(point.train_folds),
        metrics=_named(point.metrics),
    )


def complete(point: Point, notes: Mapping[str, Any]) -> protocol.Tell:
    """The trial's value is its height at `point`, e*."""
    return _scored("complete", point, notes)


def pruned(point: Point, notes: Mapping[str, Any]) -> protocol.Tell:
    """The trial was judged hopeless at `point`."""
    return _scored("pruned", point, notes)


def failed(reason: str, message: str) -> protocol.Tell:
    """No value: why, in a word and in a sentence."""
    error = protocol.TrialError(reason=reason, message=message[:LONGEST_MESSAGE])
    return protocol.Tell(state="fail", error=error)


def failure(error: Exception) -> protocol.Tell:
    """What an exception means: settings that are wrong, too little memory, or an error."""
    if isinstance(error, errors.InvalidRequest):
        return failed("bad_params", str(error))
    reason = "oom" if devices.is_out_of_memory(error) else "error"
    return failed(reason, f"{type(error).__name__}: {error}")


def not_finite(point: Point) -> protocol.Tell:
    """The trial diverged."""
    return failed("non_finite", f"a value was not a finite number after epoch {point.step}")


def _scored(state: protocol.TrialState, point: Point, notes: Mapping[str, Any]) -> protocol.Tell:
    return protocol.Tell.model_validate(
        {
            "state": state,
            "values": _all(point.values),
            "metrics": _named(point.metrics),
            "epoch": point.step,
            "notes": dict(notes),
        }
    )


def _all(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


def _named(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
