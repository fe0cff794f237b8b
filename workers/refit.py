"""The final lease: refit on the whole search part, scored once on rows never searched on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from hpo_service import catalog, protocol
from workers import estimates, generation, measured, samples
from workers.data import dataset, parts
from workers.data.dataset import Dataset
from workers.data.layouts import Layout
from workers.models import MODELS, NetworkModel
from workers.training import seeding
from workers.training.lanes import Lane, Lanes
from workers.work import Channel, Work

WINNER = "winner"


@dataclass(frozen=True)
class Refitted:
    """A model fitted on all search rows: its arrays, and what it says of the held-out rows; or
    the network, where it says nothing of rows but makes some.
    """

    arrays: dict[str, NDArray[Any]]
    prediction: NDArray[np.float64]
    generator: generation.Generator | None = None


def run(lease: protocol.TrialLease, work: Work, channel: Channel) -> protocol.Tell:
    """Fit and score the winner and the baselines; store the winner's model and predictions."""
    data = dataset.read(work.data)
    held_out = dataset.read(work.holdout) if work.holdout else None
    objective = measured.objective(lease)
    family = catalog.FAMILIES[objective.model]
    task = catalog.task_of(family, data.schema.task)
    part = _part(data, held_out, "structured" if task == "generation" else "columns")
    optimised = measured.optimised(objective, task)
    names = optimised + measured.recorded(objective, task)
    found: list[protocol.Estimate] = []
    beside: dict[str, float] = {}
    for setting in lease.refits:
        fitted = _fit(setting, data, part, torch.device(work.device))
        if setting.name == WINNER:
            _store(setting, data, part, fitted, lease.lease_id, channel)
        if held_out is not None and fitted.generator:
            held = generation.Generation(part, lease.study_seed, torch.device(work.device))
            scores, more = generation.estimates(
                setting.name, fitted.generator, held, setting.seed, names
            )
            found, beside = found + scores, beside | more
        elif held_out is not None:
            prediction = torch.from_numpy(fitted.prediction)
            target = torch.from_numpy(held_out.target)
            found += estimates.estimates(setting.name, names, prediction, target)
    return _tell(lease, optimised, found, beside, held_out is not None)


def _part(data: Dataset, held_out: Dataset | None, layout: Layout) -> parts.Part:
    everything = np.arange(data.rows)
    scoring = data if held_out is None else held_out
    scored = np.arange(held_out.rows if held_out else 0)
    return parts.part(data, everything, scoring, scored, layout)


def _fit(
    setting: protocol.ModelSetting, data: Dataset, part: parts.Part, device: torch.device
) -> Refitted:
    settings = catalog.settings_of(catalog.FAMILIES[setting.model], setting.params)
    model = MODELS[setting.model]
    if isinstance(model, NetworkModel):
        table = parts.Table.of(data.schema, [part], torch.float32, device)
        lanes = Lanes(model, [Lane(settings, 0, seeding.generator(setting.seed, 0, 0))], table)
        for _ in range(setting.epochs or 0):
            lanes.epoch()
        if isinstance(lanes.network, generation.Generator):
            return Refitted(lanes.arrays(0), np.empty((0, 0)), lanes.network)
        return Refitted(lanes.arrays(0), lanes.predict()[0].cpu().numpy())
    fitted = model.fit(settings, part.train_inputs, part.train_target, data.outputs)
    empty = np.empty((0, data.outputs))
    prediction = fitted.predict(part.valid_inputs) if len(part.valid_inputs) else empty
    return Refitted(fitted.arrays(), prediction)


def _store(
    setting: protocol.ModelSetting,
    data: Dataset,
    part: parts.Part,
    fitted: Refitted,
    lease_id: str,
    channel: Channel,
) -> None:
    """Artifacts without code: numbers as safetensors, everything else as JSON beside them."""
    preprocessing = part.preprocessing.arrays()
    arrays = fitted.arrays | {f"preprocessing.{name}": a for name, a in preprocessing.items()}
    described = {
        "family": setting.model,
        "params": setting.params,
        "epochs": setting.epochs,
        "seed": setting.seed,
        "schema": data.schema.model_dump(),
        "layout": part.preprocessing.layout,
    }
    metadata = {"model": json.dumps(described)}
    channel.artifact(lease_id, "model", save(_contiguous(arrays), metadata=metadata))
    if fitted.generator:
        rng = seeding.generator(setting.seed, 0, 0, restart=1)
        made = fitted.generator.generate(samples.count(data.schema), rng, 0).double().cpu().numpy()
        channel.artifact(lease_id, *samples.samples(made, part, data.schema))
    if len(fitted.prediction):
        predictions = {"prediction": fitted.prediction, "target": part.valid_target}
        channel.artifact(lease_id, "predictions", save(_contiguous(predictions)))


def _contiguous(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    # safetensors writes the memory as it lies.
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _tell(
    lease: protocol.TrialLease,
    optimised: list[str],
    found: list[protocol.Estimate],
    beside: dict[str, float],
    scored: bool,
) -> protocol.Tell:
    winner = next(setting for setting in lease.refits if setting.name == WINNER)
    values = winner.values
    if scored:
        by_metric = {each.metric: each.value for each in found if each.name == WINNER}
        if any(name not in by_metric for name in optimised):
            raise ArithmeticError("the refitted winner's held-out score is not a finite number")
        values = [by_metric[name] for name in optimised]
    return protocol.Tell(
        state="complete",
        values=list(values),
        epoch=winner.epochs,
        estimates=found,
        metrics=dict(beside),
    )
