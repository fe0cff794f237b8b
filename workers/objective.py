"""One pack of leases: trials become lanes, epochs become reports, and each lease ends in a tell."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hpo_service import catalog, protocol
from workers import measured, refit, tells
from workers.data import dataset
from workers.models import MODELS, NetworkModel
from workers.training import curve, devices
from workers.training.groups import Folds, Group, Trial, plan
from workers.work import Channel, Work


def device(name: str) -> str:
    """What `--device name` means on this machine; `ValueError` where it has no such device."""
    return devices.resolve(name)


def run(work: Work, channel: Channel) -> None:
    """Evaluate all leases; each ends with exactly one tell, whatever happens to the others."""
    torch.set_num_threads(work.threads)
    scored = [lease for lease in work.leases if lease.kind != "final"]
    if scored:
        _cross_validate(scored, work, channel)
    for lease in work.leases:
        if lease.kind == "final":
            channel.tell(lease.lease_id, _final(lease, work, channel))


def _final(lease: protocol.TrialLease, work: Work, channel: Channel) -> protocol.Tell:
    try:
        return refit.run(lease, work, channel)
    except ArithmeticError as error:
        return tells.failed("non_finite", str(error))
    except Exception as error:
        return tells.failure(error)


def _cross_validate(leases: Sequence[protocol.TrialLease], work: Work, channel: Channel) -> None:
    try:
        folds = _folds(leases[0], work)
    except Exception as error:
        for lease in leases:
            channel.tell(lease.lease_id, tells.failure(error))
        return
    trials = [found for lease in leases if (found := _trial(lease, folds, channel))]
    # Groups take turns, so that the trials of a pack have curves of about the same length.
    groups = plan(trials, folds)
    while groups:
        groups = [left for group in groups for left in _advance(group, folds, channel)]


def _folds(lease: protocol.TrialLease, work: Work) -> Folds:
    objective, data = measured.objective(lease), dataset.read(work.data)
    family = catalog.FAMILIES[objective.model]
    task = catalog.task_of(family, data.schema.task)
    model = MODELS[family.name]
    return Folds(
        dataset=data,
        validation=objective.validation,
        study_seed=lease.study_seed,
        optimised=measured.optimised(objective, task),
        recorded=measured.recorded(objective, task),
        device=torch.device(work.device),
        layout=model.layout if isinstance(model, NetworkModel) else "columns",
    )


def _trial(lease: protocol.TrialLease, folds: Folds, channel: Channel) -> Trial | None:
    """The lease as a trial; nothing, once told, where its parameters are not legal."""
    try:
        family = catalog.FAMILIES[lease.model or measured.objective(lease).model]
        settings = catalog.settings_of(family, lease.params)
    except Exception as error:
        channel.tell(lease.lease_id, tells.failure(error))
        return None
    epochs, patience = 1, 0
    if isinstance(settings, catalog.NetworkHyperparameters):
        epochs, patience = settings.epochs, settings.patience
    direction = catalog.METRICS[folds.optimised[0]].direction
    return Trial(lease, family, settings, curve.Curve(direction, epochs, patience))


def _advance(group: Group, folds: Folds, channel: Channel) -> list[Group]:
    """One epoch of a group; the groups to go on with: itself, or none."""
    try:
        scores = group.advance()
    except Exception as error:
        return _after_failure(group, folds, error, channel)
    going = []
    for trial, found in zip(group.trials, scores, strict=True):
        trial.curve.add(
            curve.point(len(trial.curve.points) + 1, found.folds, folds.optimised, found.train_loss)
        )
        channel.report(tells.report(trial.lease.lease_id, trial.curve.points[-1]))
        end = _end(trial, channel)
        if end is None:
            going.append(trial)
        else:
            channel.tell(trial.lease.lease_id, end)
    group.keep(going)
    return [group] if going else []


def _after_failure(group: Group, folds: Folds, error: Exception, channel: Channel) -> list[Group]:
    """One trial of a group may have brought it down: before the first report each tries alone."""
    if len(group.trials) > 1 and not group.trials[0].curve.points:
        return [alone for trial in group.trials for alone in plan([trial], folds)]
    for trial in group.trials:
        channel.tell(trial.lease.lease_id, tells.failure(error))
    return []


def _end(trial: Trial, channel: Channel) -> protocol.Tell | None:
    """How the trial ended with its newest epoch; None: it goes on."""
    points = trial.curve.points
    if not points[-1].finite:
        return tells.not_finite(points[-1])
    decision = channel.decision(trial.lease.lease_id)
    if decision is not None and decision.action == "prune":
        return tells.pruned(points[(decision.step or len(points)) - 1])
    if decision is not None and decision.action in ("stop", "lost"):
        return tells.failed("stopped", f"the server said {decision.action}")
    return tells.complete(trial.curve.chosen) if trial.curve.ended else None
