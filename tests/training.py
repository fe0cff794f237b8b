"""What the tests of training share: small data, blobs, leases, a channel that remembers."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from sklearn import datasets

from hpo_service import catalog, protocol
from workers import objective
from workers.data.dataset import Dataset
from workers.data.folds import splits
from workers.data.parts import Table, split
from workers.models import MODELS, NetworkModel
from workers.training import seeding
from workers.training.lanes import Lane, Lanes
from workers.work import Work

CPU = torch.device("cpu")


def bundled(name: str) -> Dataset:
    """A data set of scikit-learn, rows in its order."""
    found = getattr(datasets, f"load_{name}")()
    columns = [protocol.Column(name=str(at), kind="numeric") for at in range(found.data.shape[1])]
    classes = [] if name == "diabetes" else [str(each) for each in found.target_names]
    schema = protocol.DatasetSchema(
        task="classification" if classes else "regression",
        rows=len(found.data),
        columns=columns,
        target=["target"],
        classes=classes,
    )
    target = found.target if classes else found.target[:, None]
    return Dataset(schema, found.data, np.empty((len(target), 0), dtype=np.int64), target)


SHAPES: dict[str, list[int] | None] = {
    "table": None,
    "image": [1, 6, 6],
    "sequence": [5, 2],
    "symbols": [6],
}
SYMBOLS = ["a", "b", "c", "d"]


def small(
    task: protocol.StudyTask, rows: int = 43, seed: int = 0, kind: protocol.DataKind = "table"
) -> Dataset:
    """Made-up rows that can be learned, a number that folds do not divide.

    Sequences and texts end at different steps.
    """
    rng = np.random.default_rng(seed)
    shape = SHAPES[kind]
    width = int(np.prod(shape)) if shape else 5
    numeric = rng.standard_normal((rows, width))
    signal = numeric @ rng.standard_normal((width, 3))
    codes = np.empty((rows, 0), dtype=np.int64)
    if kind == "sequence":
        steps = rng.integers(2, 6, rows)
        numeric[np.repeat(np.arange(5), 2) >= steps[:, None]] = np.nan
        signal = np.nan_to_num(numeric) @ rng.standard_normal((width, 3))
    if kind == "symbols":
        codes = rng.integers(0, len(SYMBOLS), (rows, width))
        signal = np.stack([(codes == symbol).sum(1) for symbol in range(3)], 1)
        codes[np.arange(width) >= rng.integers(3, 7, rows)[:, None]] = -1
        numeric = np.empty((rows, 0))
    classes = [] if task == "regression" else ["a", "b", "c"]
    schema = protocol.DatasetSchema(
        task="classification" if classes else "regression",
        rows=rows,
        columns=[protocol.Column(name=str(at), kind="numeric") for at in range(numeric.shape[1])],
        target=["target"],
        classes=classes,
        shape=shape,
        symbols=SYMBOLS if kind == "symbols" else [],
    )
    target = signal.argmax(1) if classes else 40.0 + 7 * signal[:, :1]
    return Dataset(schema, numeric, codes, target)


def weighted(data: Dataset, seed: int = 0) -> Dataset:
    """The same rows, some of which count more than others."""
    weight = np.random.default_rng(seed).integers(1, 5, data.rows) / 2
    schema = data.schema.model_copy(update={"weighted": True})
    return replace(data, schema=schema, weight=weight)


def picked(data: Dataset, rows: NDArray[np.intp]) -> Dataset:
    """These rows alone, in the order given; unweighted."""
    schema = data.schema.model_copy(update={"rows": len(rows)})
    return Dataset(schema, data.numeric[rows], data.categorical[rows], data.target[rows])


def small_for(family: catalog.Family, task: protocol.StudyTask, rows: int = 43) -> Dataset:
    """Rows of the first kind that the family is for."""
    return small(task, rows, kind=family.kinds[0])


def mixed(rows: int = 60) -> Dataset:
    """A table with categories, some of them not known, and numbers that are missing."""
    rng = np.random.default_rng(0)
    columns = [
        protocol.Column(name="size", kind="numeric"),
        protocol.Column(name="colour", kind="categorical", categories=["blue", "red", "white"]),
        protocol.Column(name="shape", kind="categorical", categories=["long", "round"]),
    ]
    schema = protocol.DatasetSchema(
        task="classification", rows=rows, columns=columns, target=["y"], classes=["no", "yes"]
    )
    numeric = np.where(rng.random((rows, 1)) < 0.2, np.nan, rng.normal(50, 9, (rows, 1)))
    codes = np.stack([rng.integers(-1, size, rows) for size in (3, 2)], axis=1)
    return Dataset(schema, numeric, codes, rng.integers(0, 2, rows))


def blob(data: Dataset, path: Path, rows: slice = slice(None)) -> Path:
    """The rows as the server stores them."""
    schema = data.schema.model_copy(update={"rows": len(data.target[rows])})
    target = data.target if data.schema.classes else data.target[:, 0]
    arrays: dict[str, Any] = {
        "numeric": data.numeric[rows],
        "categorical": data.categorical[rows].astype(np.int32),
        "target": target[rows],
    }
    if data.weight is not None:
        arrays["weight"] = data.weight[rows]
    if data.group is not None:
        arrays["group"] = data.group[rows]
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    path.write_bytes(save(arrays, metadata={"schema": schema.model_dump_json()}))
    return path


def table(
    data: Dataset, folds: int = 3, dtype: torch.dtype = torch.float64, family: str = "mlp"
) -> Table:
    """The folds of a data set as tensors, laid out for the family."""
    model, validation = MODELS[family], protocol.Validation(folds=folds)
    layout = model.layout if isinstance(model, NetworkModel) else "columns"
    return Table.of(data.schema, split(data, splits(data, validation, 0), layout), dtype, CPU)


def lanes(rows: Table, family: str, settings: list[tuple[dict[str, Any], int, int]]) -> Lanes:
    """Lanes of (params, part, seed)."""
    model, declared = MODELS[family], catalog.FAMILIES[family]
    assert isinstance(model, NetworkModel)
    made = [
        Lane(catalog.settings_of(declared, params), part, seeding.generator(seed, 0, part))
        for params, part, seed in settings
    ]
    return Lanes(model, made, rows)


def lease(model: str, params: dict[str, Any] | None = None, **changes: Any) -> protocol.TrialLease:
    """Of a search trial; `metrics`, `record`, and `validation` (or `folds`, `repeats`) of it."""
    objective = protocol.TrainObjective(
        kind="train",
        model=model,
        dataset="data",
        metrics=changes.pop("metrics", None),
        record=changes.pop("record", []),
        validation=changes.pop("validation", None)
        or protocol.Validation(folds=changes.pop("folds", 5), repeats=changes.pop("repeats", 1)),
    )
    told = {"study_id": 1, "study": "s", "trial_id": 1, "number": 0, "kind": "search"}
    told |= {"attempt": 1, "ttl": 30.0, "seed": 0, "study_seed": 0, "model": model}
    told |= {"lease_id": str(uuid.uuid4()), "params": params or {}, "objective": objective}
    return protocol.TrialLease.model_validate(told | changes)


@dataclass
class Channel:
    """Remembers what was sent; `decisions` are those that arrive after a step of a lease."""

    decisions: dict[tuple[str, int], protocol.Decision] = field(default_factory=dict)
    reports: dict[str, list[protocol.Report]] = field(default_factory=dict)
    tells: dict[str, protocol.Tell] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    checkpoints: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # the newest of each
    arriving: list[protocol.TrialLease] = field(default_factory=list)  # the answer of `more`

    def report(self, report: protocol.Report) -> None:
        self.reports.setdefault(report.lease_id, []).append(report)

    def decision(self, lease_id: str) -> protocol.Decision | None:
        return self.decisions.get((lease_id, len(self.reports[lease_id])))

    def tell(self, lease_id: str, tell: protocol.Tell) -> None:
        assert lease_id not in self.tells, "told twice"
        self.tells[lease_id] = tell

    def artifact(self, lease_id: str, name: str, data: bytes) -> None:
        assert lease_id not in self.tells, "stored after the tell"
        self.artifacts[name] = data

    def checkpoint(self, lease_id: str, step: int, data: bytes) -> None:
        assert lease_id not in self.tells, "kept after the tell"
        self.checkpoints[lease_id] = (step, data)

    def more(self) -> list[protocol.TrialLease]:
        arrived, self.arriving = self.arriving, []
        return arrived


def stored(data: Dataset, model: str, params: dict[str, Any], folder: Path) -> dict[str, bytes]:
    """The artifacts of a winner; the last third of the rows is held out."""
    rows = data.rows * 2 // 3
    search = blob(data, folder / "search", slice(0, rows))
    held_out = blob(data, folder / "held_out", slice(rows, data.rows))
    one = protocol.ModelSetting(
        name="winner", model=model, params=params, epochs=2, seed=5, values=[0.5]
    )
    channel = Channel()
    given = lease(model, kind="final", refits=[one])
    objective.run(Work([given], search, held_out, "cpu", 1), channel)
    assert channel.tells[given.lease_id].state == "complete", channel.tells
    return channel.artifacts
