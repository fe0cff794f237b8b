"""What a lease asks to measure."""

from __future__ import annotations

from pathlib import Path

from hpo_service import protocol
from hpo_service.catalog import METRICS, TIE_BREAKER
from workers.work import Work


def objective(lease: protocol.TrialLease) -> protocol.TrainObjective:
    """The lease's objective; raises `ValueError` where it is not ours to train."""
    if isinstance(lease.objective, protocol.TrainObjective):
        return lease.objective
    raise ValueError("the lease is of no train study: there is nothing to train")


def data(work: Work) -> Path:
    """The search part of the data; raises `ValueError` where there is none."""
    if work.data is None:
        raise ValueError("the lease names no data: there is nothing to train on")
    return work.data


def optimised(objective: protocol.TrainObjective, task: protocol.StudyTask) -> list[str]:
    """Metrics that the study optimises, in order; unset: the task's default."""
    return objective.metrics or [
        metric.name for metric in METRICS.values() if metric.default and task in metric.tasks
    ]


def recorded(objective: protocol.TrainObjective, task: protocol.StudyTask) -> list[str]:
    """Metrics that are measured only."""
    known = optimised(objective, task)
    return [name for name in dict.fromkeys(objective.record) if name not in known]


def searched(objective: protocol.TrainObjective, task: protocol.StudyTask) -> list[str]:
    """What the search measures beside what is optimised: log loss breaks ties in accuracy."""
    found = recorded(objective, task)
    first = optimised(objective, task)
    breaks = "accuracy" in first and TIE_BREAKER not in [*first, *found]
    return [*found, TIE_BREAKER] if breaks else found
