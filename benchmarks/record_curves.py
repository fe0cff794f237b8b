"""Records learning curves with the values of each fold, for rules that stop trials to be tried on.

Random settings of the MLP's default space, trained by a worker's own lanes: 200 of them, 5 folds,
30 epochs, on digits and on breast_cancer. What is kept, in benchmarks/curves/<data set>.npz, are
the accuracies `folds` (settings, epochs, folds) and the log losses of the same shape, NaN from
where a setting diverged; `ratio`: rows that a fold scores by rows it trains on. A run that was
broken off goes on where it stood.

usage: python -m benchmarks.record_curves
"""

from __future__ import annotations

import io
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arms import Channel
from hpo_service import catalog, protocol, seeds
from hpo_service.cube import Cube
from hpo_service.datasets.builtin import DATASETS
from hpo_service.samplers import SAMPLERS, Ask
from hpo_service.seen import nothing
from workers import objective
from workers.work import Work

CURVES = Path(__file__).parent / "curves"
NAMES = ("digits", "breast_cancer")
METRICS = ("accuracy", "log_loss")
SETTINGS, EPOCHS, FOLDS, PACK = 200, 30, 5, 10
SEED = 0

Curves = dict[str, NDArray[Any]]


def params(number: int) -> dict[str, Any]:
    """The random setting of this number."""
    cube = Cube(catalog.FAMILIES["mlp"].default_space)
    ask = Ask(number, seeds.sampler_seed(SEED, number))
    (found,) = SAMPLERS["random"].make(cube, {}).propose(nothing(cube, 1), ask)
    return {**found.params, "epochs": EPOCHS}


def record(name: str) -> None:
    """All settings on one data set, stored after each pack."""
    path = CURVES / f"{name}.npz"
    kept = _stored(path) if path.exists() else _empty()
    for first in range(int(kept["done"]), SETTINGS, PACK):
        numbers = range(first, first + PACK)
        for number, curve in zip(numbers, _trained(name, numbers), strict=True):
            for metric in METRICS:
                kept[metric][number] = curve[metric]
        kept["done"] = np.array(first + PACK)
        _store(path, kept)


def _empty() -> Curves:
    shape = (SETTINGS, EPOCHS, FOLDS)
    found: Curves = {metric: np.full(shape, np.nan, dtype=np.float32) for metric in METRICS}
    # Each fold is scored on a fifth of the rows.
    return found | {"done": np.array(0), "ratio": np.array(1 / (FOLDS - 1))}


def _stored(path: Path) -> Curves:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def _store(path: Path, kept: Curves) -> None:
    """At once or not at all."""
    data = io.BytesIO()
    np.savez_compressed(data, **kept)  # type: ignore[arg-type]
    path.parent.mkdir(exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_bytes(data.getvalue())
    beside.replace(path)


def _trained(name: str, numbers: range) -> list[Curves]:
    """The curves of these settings, trained as one pack."""
    leases = [_lease(name, number) for number in numbers]
    channel = _Channel({lease.lease_id: _empty_curve() for lease in leases})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows")
        path.write_bytes(DATASETS[name].load().to_bytes())
        objective.run(Work(leases, path, None, "cpu", 1), channel)
    return [channel.curves[lease.lease_id] for lease in leases]


def _empty_curve() -> Curves:
    return {metric: np.full((EPOCHS, FOLDS), np.nan, dtype=np.float32) for metric in METRICS}


def _lease(name: str, number: int) -> protocol.TrialLease:
    return protocol.TrialLease(
        lease_id=str(uuid.uuid4()),
        study_id=1,
        study="curves",
        trial_id=number + 1,
        number=number,
        kind="search",
        attempt=1,
        ttl=60.0,
        model="mlp",
        params=params(number),
        seed=seeds.trial_seed(SEED, number),
        study_seed=SEED,
        objective=protocol.TrainObjective(
            kind="train",
            model="mlp",
            dataset=name,
            metrics=list(METRICS),
            validation=protocol.Validation(method="k_fold", folds=FOLDS),
        ),
    )


class _Channel(Channel):
    """Keeps what is reported."""

    def __init__(self, curves: dict[str, Curves]) -> None:
        super().__init__()
        self.curves = curves

    def report(self, report: protocol.Report) -> None:
        for metric, folds in zip(METRICS, report.folds, strict=True):
            values = [np.nan if value is None else value for value in folds]
            self.curves[report.lease_id][metric][report.step - 1] = values

    def tell(self, lease_id: str, tell: protocol.Tell) -> None:
        if tell.state != "complete" and (tell.error is None or tell.error.reason != "non_finite"):
            raise RuntimeError(f"a setting has failed: {tell.error}")


if __name__ == "__main__":
    for each in NAMES:
        record(each)
