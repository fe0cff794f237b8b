"""A stored model, ready to predict: read from its arrays and its JSON, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from hpo_service import catalog, errors, protocol
from workers.data.dataset import Dataset, Floats
from workers.data.layouts import SPECIAL
from workers.data.preprocessing import Preprocessing
from workers.models import outputs
from workers.models.base import Arrays, Fitted, Model, Network, NetworkModel, Shape
from workers.models.gan import Gan

CPU = torch.device("cpu")
PREPROCESSING = "preprocessing"
NETWORKS = "networks"
MEMBERS = "members"


@dataclass(frozen=True)
class Networks:
    """Networks of one shape, whose predictions are averaged; see `base.Fitted`."""

    members: list[Network]
    shape: Shape
    target_mean: Floats
    target_scale: Floats

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities (rows, classes), or (rows, steps, classes), or numbers (rows, targets)."""
        shape, wanted = self.shape, torch.from_numpy(inputs).to(self.shape.device, self.shape.dtype)
        mean, scale = (
            torch.from_numpy(each).to(shape.device)
            for each in (self.target_mean, self.target_scale)
        )
        found = torch.stack(
            [
                outputs.said(each.predict(wanted[None]), shape.task, shape.outputs, mean, scale)[0]
                for each in self.members
            ]
        )
        steps = (-1, shape.outputs) if shape.per_step else (shape.outputs,)
        said: NDArray[np.float64] = found.mean(0).cpu().numpy().reshape(len(inputs), *steps)
        return said

    def arrays(self) -> Arrays:
        """Of the first."""
        return self.members[0].arrays(0)


@dataclass(frozen=True)
class Member:
    """One fitted setting: its share of the mean, its preprocessing, what was fitted."""

    weight: float
    settings: Any
    preprocessing: Preprocessing
    fitted: Fitted


@dataclass(frozen=True)
class Loaded:
    """A model as it was stored: what its card says, and its members, mostly one."""

    card: protocol.ModelCard
    members: list[Member]

    @property
    def schema(self) -> protocol.DatasetSchema:
        """Of the rows it was fitted on, and so of those it predicts."""
        return self.card.contents

    def predict(self, dataset: Dataset) -> Floats:
        """Of each row: probabilities (rows, classes), or (rows, steps, classes), or numbers in the
        data's units (rows, targets).

        Raises `BadRequest` for rows of other columns, and for a family that makes rows.
        """
        if catalog.FAMILIES[self.card.family].tasks == ("generation",):
            raise errors.BadRequest(f"{self.card.family} makes rows: it predicts nothing of them.")
        if _inputs(dataset.schema) != _inputs(self.schema):
            raise errors.BadRequest("The rows are not of the columns that the model was fitted on.")
        if not dataset.rows:
            return np.empty((0, len(self.schema.classes) or len(self.schema.target)))
        rows = np.arange(dataset.rows)
        said = [
            member.weight * member.fitted.predict(member.preprocessing.inputs(dataset, rows))
            for member in self.members
        ]
        mean: Floats = np.sum(said, axis=0)
        return mean

    def generate(self, rows: int, rng: np.random.Generator) -> Floats:
        """Rows that a generator makes, (rows, columns), laid out and scaled as its inputs are.

        Raises `BadRequest` for a family that predicts.
        """
        fitted = self.members[0].fitted
        network = fitted.members[0] if isinstance(fitted, Networks) else None
        if not isinstance(network, Gan):
            raise errors.BadRequest(f"{self.card.family} predicts: it makes no rows.")
        made: Floats = network.generate(rows, rng, 0).double().cpu().numpy()
        return made


def load(path: Path, models: Mapping[str, Model], device: torch.device = CPU) -> Loaded:
    """The model in a file, of one of these families.

    Raises `OSError` where there is no such file, `BadRequest` where it is not a whole model of
    this version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            card = protocol.ModelCard.of(path.name, file.metadata())
            arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise errors.BadRequest(f"{path.name} is no model, or not all of one: {error}.") from None
    if card.family not in models:
        raise errors.BadRequest(f"{path.name} is of family {card.family!r}, unknown here.")
    try:
        return _restored(card, models[card.family], arrays, device)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()[:20])
        raise errors.BadRequest(f"{path.name} lacks arrays of its model: {reason}.") from None


def _restored(
    card: protocol.ModelCard, model: Model, arrays: Arrays, device: torch.device
) -> Loaded:
    family = catalog.FAMILIES[card.family]
    of_each = [(1.0, card.params, arrays)]
    if card.members:
        of_each = [
            (each.weight, each.params, _below(f"{MEMBERS}.{at}", arrays))
            for at, each in enumerate(card.members)
        ]
    members = [
        _member(card, model, weight, catalog.settings_of(family, params), own, device)
        for weight, params, own in of_each
    ]
    return Loaded(card, members)


def _member(
    card: protocol.ModelCard,
    model: Model,
    weight: float,
    settings: Any,
    arrays: Arrays,
    device: torch.device,
) -> Member:
    preprocessing = Preprocessing.restore(card.contents, card.layout, _below(PREPROCESSING, arrays))
    own = {n: array for n, array in arrays.items() if not n.startswith(f"{PREPROCESSING}.")}
    if isinstance(model, NetworkModel):
        fitted: Fitted = _networks(card, model, settings, preprocessing, own, device)
    else:
        fitted = model.restore(settings, own, _outputs(card.contents))
        said = fitted.predict(preprocessing.inputs(_blank(card.contents), np.arange(1)))
        if said.shape != (1, _outputs(card.contents)):
            raise ValueError("shapes differ")
    return Member(weight, settings, preprocessing, fitted)


def _networks(
    card: protocol.ModelCard,
    model: NetworkModel,
    settings: Any,
    preprocessing: Preprocessing,
    arrays: Arrays,
    device: torch.device,
) -> Networks:
    shape = _shape(card, preprocessing, device)
    networks = [_network(model, settings, each, shape) for each in _restarts(arrays)]
    return Networks(networks, shape, preprocessing.target_mean, preprocessing.target_scale)


def _network(model: NetworkModel, settings: Any, arrays: Arrays, shape: Shape) -> Network:
    # What is drawn at first is written over.
    network = model.build([settings], [np.random.default_rng(0)], shape)
    network.restore(arrays, 0)
    forms = {name: array.shape for name, array in network.arrays(0).items()}
    if forms != {name: array.shape for name, array in arrays.items()}:
        raise ValueError("names or shapes differ")
    return network


def _restarts(arrays: Arrays) -> list[Arrays]:
    """The arrays of each network; see `ModelCard`."""
    networks: list[Arrays] = []
    while found := _below(f"{NETWORKS}.{len(networks)}", arrays):
        networks.append(found)
    return networks or [arrays]


def _shape(card: protocol.ModelCard, preprocessing: Preprocessing, device: torch.device) -> Shape:
    schema, structured = card.contents, card.layout == "structured"
    return Shape(
        task=schema.task,
        inputs=preprocessing.inputs(_blank(schema), np.arange(1)).shape[1],
        outputs=_outputs(schema),
        dtype=torch.float32,
        device=device,
        dims=tuple(schema.shape or ()) if structured else (),
        symbols=len(schema.symbols) + SPECIAL if structured and schema.kind == "symbols" else 0,
        per_step=schema.per_step,
        blocks=preprocessing.blocks,
    )


def _blank(schema: protocol.DatasetSchema) -> Dataset:
    """One row of which nothing is known."""
    numbers = sum(each.kind == "numeric" for each in schema.columns)
    codes = np.full((1, _codes(schema)), -1, np.int64)
    return Dataset(schema, np.full((1, numbers), np.nan), codes, np.full(1, -1))


def _codes(schema: protocol.DatasetSchema) -> int:
    """Numbers of a row in `Dataset.categorical`."""
    if schema.kind == "symbols" and schema.shape:
        return schema.shape[0]
    return sum(each.kind == "categorical" for each in schema.columns)


def _outputs(schema: protocol.DatasetSchema) -> int:
    return len(schema.classes) or len(schema.target)


def _inputs(schema: protocol.DatasetSchema) -> tuple[Any, ...]:
    """What must agree for rows to mean the same."""
    return schema.columns, schema.shape, schema.symbols


def _below(prefix: str, arrays: Arrays) -> Arrays:
    start = f"{prefix}."
    return {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}
