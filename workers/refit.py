"""The final lease: refit on the whole search part, scored once on rows never searched on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue

from hpo_service import catalog, protocol
from workers import findings, generation, measured, samples, serving
from workers.data import dataset, parts
from workers.data.dataset import Dataset
from workers.data.layouts import Layout
from workers.evidence import intervals
from workers.models import MODELS, NetworkModel, loading, storing, text
from workers.models.base import Arrays
from workers.serving import SERVED, WINNER
from workers.training import refitting, seeding
from workers.work import Channel, Work

log = logging.getLogger("hpo.worker")


@dataclass(frozen=True)
class Refitted:
    """A model fitted on all search rows: its arrays, its preprocessing, and what it says of the
    held-out rows, (rows, outputs); with a class for each step, of the steps that have one, and
    `rows` tells which row each is of: the steps of a row hang together. A generator says nothing
    of rows but makes some. What is served as several models has no arrays of its own.
    """

    part: parts.Part
    prediction: NDArray[np.float64]
    target: NDArray[Any]
    arrays: Arrays = field(default_factory=dict)
    rows: NDArray[np.int64] | None = None
    generator: generation.Generator | None = None


@dataclass(frozen=True)
class Member:
    """A setting that is served, its share of the mean, what it was refitted to."""

    setting: protocol.ModelSetting
    weight: float
    fitted: Refitted


def run(lease: protocol.TrialLease, work: Work, channel: Channel) -> protocol.Tell:
    """Fit and score what is served, the winner and the baselines; store the model that is served
    and its predictions.
    """
    data = dataset.read(measured.data(work))
    optimised, names = _metrics(lease, data)
    said, choice, notes = _decided(lease, work, data, optimised)
    # Nothing is chosen any more once these rows are opened.
    held_out = dataset.read(work.holdout) if work.holdout else None
    fits = _Fits(data, held_out, torch.device(work.device))
    members = [Member(one, weight, fits.fit(one)) for one, weight in choice.shares(lease)]
    served = _serve(choice, members, fits, lease.lease_id, channel)
    found: list[protocol.Estimate] = []
    beside: dict[str, float] = {}
    for setting, fitted in _scored(lease, choice, members, served, fits):
        if held_out is not None:
            scores, more = _scores(setting, fitted, held_out, lease.study_seed, names)
            found, beside = found + scores, beside | more
    told = _tell(lease, optimised, found, beside, held_out is not None)
    told = told.model_copy(update={"notes": notes})
    try:
        return _with_findings(told, lease, said, choice, data, optimised[0])
    except Exception as error:  # the model and its scores are there, whatever else could be said
        log.exception("nothing could be found in the predictions of unseen rows")
        judged = protocol.Judged(served=choice.served, ensemble=choice.ensemble)
        return told.model_copy(update={"judged": judged, "notes": notes | _noted(error)})


def _metrics(lease: protocol.TrialLease, data: Dataset) -> tuple[list[str], list[str]]:
    """What the study optimises, and all that held-out rows tell."""
    objective = measured.objective(lease)
    task = catalog.task_of(catalog.FAMILIES[objective.model], data.schema.task)
    optimised = measured.optimised(objective, task)
    # What a setting takes was measured in the search; held-out rows say nothing of it.
    named = optimised + measured.recorded(objective, task)
    return optimised, [name for name in named if not catalog.METRICS[name].cost]


def _decided(
    lease: protocol.TrialLease, work: Work, data: Dataset, optimised: list[str]
) -> tuple[list[findings.Said], serving.Choice, dict[str, JsonValue]]:
    """The predictions of unseen rows, what they say is to be served, and what went wrong."""
    try:
        said = findings.read(lease, work)
        return said, serving.decide(lease, work, said, data, optimised), {}
    except Exception as error:  # the winner can be refitted, whatever else could be said
        log.exception("nothing could be found in the predictions of unseen rows")
        choice = serving.single("what the predictions of unseen rows say could not be told")
        return [], choice, _noted(error)


def _noted(error: Exception) -> dict[str, JsonValue]:
    return {"findings_error": f"{error!r:.1000}"}


def _with_findings(
    told: protocol.Tell,
    lease: protocol.TrialLease,
    said: list[findings.Said],
    choice: serving.Choice,
    data: Dataset,
    metric: str,
) -> protocol.Tell:
    """With what the predictions of unseen rows say."""
    corrected = findings.of_choice(said, data, metric)
    judged = protocol.Judged(
        verdict=findings.of_winner(said, data, lease, metric, told.estimates),
        ensemble=choice.ensemble,
        served=choice.served,
    )
    estimates = [*told.estimates, *([corrected] if corrected else [])]
    return told.model_copy(update={"estimates": estimates, "judged": judged})


def _scored(
    lease: protocol.TrialLease,
    choice: serving.Choice,
    members: Sequence[Member],
    served: Refitted,
    fits: _Fits,
) -> Iterator[tuple[protocol.ModelSetting, Refitted]]:
    """What held-out rows score: what is served, where that is not the winner; winner, baselines.

    Of a winner whose networks of the search are served nothing is refitted.
    """
    winner = next(setting for setting in lease.refits if setting.name == WINNER)
    if choice.served.kind != "single":
        yield winner.model_copy(update={"name": SERVED}), served
    if choice.served.kind != "folds":
        done = (each.fitted for each in members if each.setting.number == winner.number)
        yield winner, next(done, None) or fits.fit(winner)
    yield from ((each, fits.fit(each)) for each in lease.refits if each.name != WINNER)


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


class _Fits:
    """Settings fitted on all rows of the search; how these lie is made once for each layout."""

    def __init__(self, data: Dataset, held_out: Dataset | None, device: torch.device) -> None:
        self.data, self.held_out, self.device = data, held_out, device
        self._parts: dict[Layout, parts.Part] = {}

    def fit(self, setting: protocol.ModelSetting) -> Refitted:
        """A setting and what it says of the held-out rows."""
        settings = catalog.settings_of(catalog.FAMILIES[setting.model], setting.params)
        model, outputs = MODELS[setting.model], self.data.outputs
        if isinstance(model, NetworkModel):
            return self._networks(model, settings, setting)
        part, seed = self.part("columns"), seeding.integer(setting.seed, 0, 0)
        inputs, target = part.train_inputs, part.train_target
        fitted = model.fit(settings, inputs, target, outputs, seed, part.train_weight)
        empty = np.empty((0, outputs))
        prediction = fitted.predict(part.valid_inputs) if len(part.valid_inputs) else empty
        return Refitted(part, prediction, part.valid_target, fitted.arrays())

    def _networks(
        self, model: NetworkModel, settings: Any, setting: protocol.ModelSetting
    ) -> Refitted:
        part = self.part(model.layout)
        table = parts.Table.of(self.data.schema, [part], torch.float32, self.device)
        networks = refitting.fit(model, settings, setting, table)
        named = storing.named(networks.arrays)
        if networks.generator is not None:
            nothing = np.empty((0, 0)), np.empty(0)
            return Refitted(part, *nothing, named, generator=networks.generator)
        prediction, target, rows = _steps(table, networks.prediction)
        return Refitted(part, prediction, target, named, rows)

    def part(self, layout: Layout) -> parts.Part:
        """All rows of the search to train on, those held out to score."""
        if layout not in self._parts:
            scoring = self.held_out or self.data
            rows = np.arange(self.held_out.rows if self.held_out else 0)
            everything = np.arange(self.data.rows)
            self._parts[layout] = parts.part(self.data, everything, scoring, rows, layout)
        return self._parts[layout]


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


def _serve(
    choice: serving.Choice,
    members: Sequence[Member],
    fits: _Fits,
    lease_id: str,
    channel: Channel,
) -> Refitted:
    """Store the model that is served, without code: numbers as safetensors, all else as JSON beside
    them; give back what it says of the held-out rows.
    """
    if choice.networks is not None:
        channel.artifact(lease_id, "model", choice.networks.read_bytes())
        served = _of_folds(choice.networks, fits)
    else:
        own = [
            storing.whole(each.fitted.arrays, each.fitted.part.preprocessing) for each in members
        ]
        channel.artifact(lease_id, "model", storing.pack(_card(members, fits.data), own))
        served = _mean(members)
    if choice.served.kind == "single":
        for name, content in _shown(members[0].setting, fits.data, served):
            channel.artifact(lease_id, name, content)
    if len(served.prediction):
        predictions = {"prediction": served.prediction, "target": served.target}
        channel.artifact(lease_id, "predictions", storing.packed(predictions))
    return served


def _of_folds(networks: Path, fits: _Fits) -> Refitted:
    """What the winner's networks of the search say together."""
    loaded = loading.load(networks, MODELS, fits.device)
    part, held_out = fits.part(loaded.card.layout), fits.held_out
    prediction = loaded.predict(held_out) if held_out else np.empty((0, fits.data.outputs))
    return Refitted(part, prediction, part.valid_target)


def _mean(members: Sequence[Member]) -> Refitted:
    first = members[0].fitted
    if len(members) == 1:
        return first
    prediction = np.sum([each.weight * each.fitted.prediction for each in members], axis=0)
    return Refitted(first.part, prediction, first.target)


def _card(members: Sequence[Member], data: Dataset) -> protocol.ModelCard:
    first = members[0]
    return protocol.ModelCard(
        family=first.setting.model,
        params=first.setting.params,
        epochs=first.setting.epochs,
        seed=first.setting.seed,
        layout=first.fitted.part.preprocessing.layout,
        schema=data.schema,
        members=[_member(each) for each in members] if len(members) > 1 else [],
    )


def _member(given: Member) -> protocol.ModelMember:
    setting = given.setting
    return protocol.ModelMember(
        params=setting.params,
        epochs=setting.epochs,
        seed=setting.seed,
        number=setting.number,
        weight=given.weight,
    )


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
        served = SERVED if any(each.name == SERVED for each in found) else WINNER
        by_metric = {each.metric: each.value for each in found if each.name == served}
        told = zip(optimised, winner.values, strict=True)
        by_metric |= {name: value for name, value in told if catalog.METRICS[name].cost}
        if any(name not in by_metric for name in optimised):
            raise ArithmeticError(
                "the held-out score of the model that is served is not a finite number"
            )
        values = [by_metric[name] for name in optimised]
    return protocol.Tell(
        state="complete",
        values=list(values),
        epoch=winner.epochs,
        estimates=found,
        metrics=dict(beside),
    )
