"""The final lease: refit on the whole search part, scored once on rows never searched on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from hpo_service import catalog, protocol
from workers import findings, generation, measured, samples
from workers.data import dataset, parts
from workers.data.dataset import Dataset
from workers.data.layouts import Layout
from workers.evidence import intervals
from workers.models import MODELS, NetworkModel, text
from workers.models.base import Arrays
from workers.training import refitting, seeding
from workers.work import Channel, Work

WINNER = "winner"

log = logging.getLogger("hpo.worker")


@dataclass(frozen=True)
class Refitted:
    """A model fitted on all search rows: its arrays, its preprocessing, and what it says of the
    held-out rows, (rows, outputs); with a class for each step, of the steps that have one, and
    `rows` tells which row each is of: the steps of a row hang together. A generator says nothing
    of rows but makes some.
    """

    arrays: dict[str, NDArray[Any]]
    part: parts.Part
    prediction: NDArray[np.float64]
    target: NDArray[Any]
    rows: NDArray[np.int64] | None = None
    generator: generation.Generator | None = None


def run(lease: protocol.TrialLease, work: Work, channel: Channel) -> protocol.Tell:
    """Fit and score the winner and the baselines; store the winner's model and predictions."""
    data = dataset.read(measured.data(work))
    held_out = dataset.read(work.holdout) if work.holdout else None
    objective = measured.objective(lease)
    task = catalog.task_of(catalog.FAMILIES[objective.model], data.schema.task)
    optimised = measured.optimised(objective, task)
    # What a setting takes was measured in the search; held-out rows say nothing of it.
    named = optimised + measured.recorded(objective, task)
    names = [name for name in named if not catalog.METRICS[name].cost]
    found: list[protocol.Estimate] = []
    beside: dict[str, float] = {}
    for setting in lease.refits:
        fitted = _fit(setting, data, held_out, torch.device(work.device))
        if setting.name == WINNER:
            _store(setting, data, fitted, lease.lease_id, channel)
        if held_out is not None:
            scores, more = _scores(setting, fitted, held_out, lease.study_seed, names)
            found, beside = found + scores, beside | more
    told = _tell(lease, optimised, found, beside, held_out is not None)
    try:
        return _with_findings(told, lease, work, data, optimised[0])
    except Exception as error:  # the model and its scores are there, whatever else could be said
        log.exception("nothing could be found in the predictions of unseen rows")
        return told.model_copy(update={"notes": {"findings_error": f"{error!r:.1000}"}})


def _with_findings(
    told: protocol.Tell, lease: protocol.TrialLease, work: Work, data: Dataset, metric: str
) -> protocol.Tell:
    """With what the predictions of unseen rows say."""
    said = findings.read(lease, work)
    choice = findings.of_choice(said, data, metric)
    judged = protocol.Judged(
        verdict=findings.of_winner(said, data, lease, metric, told.estimates),
        ensemble=findings.of_ensemble(said, data, lease, metric),
    )
    estimates = [*told.estimates, *([choice] if choice else [])]
    return told.model_copy(update={"estimates": estimates, "judged": judged})


def _scores(
    setting: protocol.ModelSetting,
    fitted: Refitted,
    held_out: Dataset,
    study_seed: int,
    names: list[str],
) -> tuple[list[protocol.Estimate], dict[str, float]]:
    """The held-out scores, and what was measured beside them."""
    if fitted.generator is not None:
        held = generation.Generation(fitted.part, study_seed)
        return generation.estimates(setting.name, fitted.generator, held, setting.seed, names)
    found = intervals.estimates(
        setting.name,
        names,
        torch.from_numpy(fitted.prediction),
        torch.from_numpy(fitted.target),
        group=held_out.group if fitted.rows is None else fitted.rows,
        ordered=held_out.schema.ordered,
        weight=held_out.weight if fitted.rows is None else None,
    )
    return found, {}


def _fit(
    setting: protocol.ModelSetting, data: Dataset, held_out: Dataset | None, device: torch.device
) -> Refitted:
    settings = catalog.settings_of(catalog.FAMILIES[setting.model], setting.params)
    model = MODELS[setting.model]
    part = _part(data, held_out, model.layout if isinstance(model, NetworkModel) else "columns")
    if isinstance(model, NetworkModel):
        table = parts.Table.of(data.schema, [part], torch.float32, device)
        networks = refitting.fit(model, settings, setting, table)
        named = _named(networks.arrays)
        if networks.generator is not None:
            nothing = np.empty((0, 0)), np.empty(0)
            return Refitted(named, part, *nothing, generator=networks.generator)
        return Refitted(named, part, *_steps(table, networks.prediction))
    seed, weights = seeding.integer(setting.seed, 0, 0), part.train_weight
    fitted = model.fit(settings, part.train_inputs, part.train_target, data.outputs, seed, weights)
    empty = np.empty((0, data.outputs))
    prediction = fitted.predict(part.valid_inputs) if len(part.valid_inputs) else empty
    return Refitted(fitted.arrays(), part, prediction, part.valid_target)


def _part(data: Dataset, held_out: Dataset | None, layout: Layout) -> parts.Part:
    everything = np.arange(data.rows)
    scoring = data if held_out is None else held_out
    rows = np.arange(held_out.rows if held_out else 0)
    return parts.part(data, everything, scoring, rows, layout)


def _steps(
    table: parts.Table, prediction: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.int64] | None]:
    """Prediction, target and row, without the steps that have no class."""
    target = table.valid_target[0].cpu().numpy()
    if not table.per_step:
        return prediction, target, None
    labelled = target.reshape(-1) >= 0
    rows = np.repeat(np.arange(len(target)), target.shape[1])
    return prediction[labelled], target.reshape(-1)[labelled], rows[labelled]


def _named(networks: list[Arrays]) -> Arrays:
    """Names of an ensemble's arrays begin with `networks.<number>.`."""
    if len(networks) == 1:
        return networks[0]
    return {
        f"networks.{at}.{n}": a for at, arrays in enumerate(networks) for n, a in arrays.items()
    }


def _store(
    setting: protocol.ModelSetting,
    data: Dataset,
    fitted: Refitted,
    lease_id: str,
    channel: Channel,
) -> None:
    """Artifacts without code: numbers as safetensors, everything else as JSON beside them."""
    preprocessing = fitted.part.preprocessing
    arrays = fitted.arrays | {f"preprocessing.{n}": a for n, a in preprocessing.arrays().items()}
    card = protocol.ModelCard(
        family=setting.model,
        params=setting.params,
        epochs=setting.epochs,
        seed=setting.seed,
        layout=preprocessing.layout,
        schema=data.schema,
    )
    channel.artifact(lease_id, "model", save(_contiguous(arrays), metadata=card.metadata()))
    for name, content in _shown(setting, data, fitted):
        channel.artifact(lease_id, name, content)
    if len(fitted.prediction):
        predictions = {"prediction": fitted.prediction, "target": fitted.target}
        channel.artifact(lease_id, "predictions", save(_contiguous(predictions)))


def _shown(
    setting: protocol.ModelSetting, data: Dataset, fitted: Refitted
) -> Iterator[tuple[str, bytes]]:
    """What a person can look at: rows that a generator made, a text that a network continued."""
    rng = seeding.generator(setting.seed, 0, 0, restart=1)
    if fitted.generator is not None:
        made = fitted.generator.generate(samples.count(data.schema), rng, 0).double().cpu().numpy()
        yield samples.samples(made, fitted.part, data.schema)
    if text.continues(setting.model, data.schema):
        settings = catalog.settings_of(catalog.FAMILIES[setting.model], setting.params)
        told = text.sample(fitted.arrays, settings, data.schema, data.categorical[0], rng)
        yield "continuation.txt", told.encode()


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
        told = zip(optimised, winner.values, strict=True)
        by_metric |= {name: value for name, value in told if catalog.METRICS[name].cost}
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
