"""One pack of leases: trials become lanes, epochs become reports, and each lease ends in a tell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property

import torch

from hpo_service import catalog, protocol
from workers import measured, refit, tells
from workers.data import dataset
from workers.data.dataset import Dataset
from workers.training import checkpoints, curve, devices, fold_networks, out_of_fold
from workers.training.folds import Folds
from workers.training.groups import Group, plan
from workers.training.trial import Trial, horizon
from workers.work import Channel, Work

# How the rows are split: the validation as JSON, the seed that shuffles, the share to train on.
Split = tuple[str, int, float]

CHECKPOINT_SECONDS = 30.0  # between two checkpoints of a trial


def device(name: str) -> str:
    """What `--device name` means on this machine; `ValueError` where it has no such device."""
    return devices.resolve(name)


def run(work: Work, channel: Channel) -> None:
    """Evaluate all leases; each ends with exactly one tell, whatever happens to the others."""
    torch.set_num_threads(work.threads)
    devices.set_precision(work.precision)
    scored = [lease for lease in work.leases if lease.kind != "final"]
    if scored:
        _CrossValidation(work, channel).run(scored)
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


class _CrossValidation:
    """The leases of a pack, and those that come to it, on their way to their tells."""

    def __init__(self, work: Work, channel: Channel) -> None:
        self._work, self._channel = work, channel
        self._splits: dict[Split, Folds] = {}
        self._kept: dict[str, float] = {}  # when each trial's last checkpoint was made
        self._best: dict[str, checkpoints.Best] = {}  # of each trial

    def run(self, leases: Sequence[protocol.TrialLease]) -> None:
        groups = self._groups(leases)
        # Groups take turns, so that the trials of a pack have curves of about the same length.
        while groups:
            groups = [left for group in groups for left in self._advance(group)]
            groups = self._groups(self._channel.more(), groups)

    def _groups(
        self, leases: Sequence[protocol.TrialLease], running: Sequence[Group] = ()
    ) -> list[Group]:
        """The groups to go on with, new leases among them."""
        groups = list(running)
        trials: dict[Split, list[Trial]] = {}
        for lease in leases:
            if found := self._trial(lease):
                trials.setdefault(_split(lease, found.settings), []).append(found)
        for split, some in trials.items():
            groups = plan(some, self._splits[split], self._work.lanes, groups)
        return groups

    def _trial(self, lease: protocol.TrialLease) -> Trial | None:
        """The lease as a trial; nothing, once told, where it cannot be one."""
        try:
            family = catalog.FAMILIES[lease.model or measured.objective(lease).model]
            settings = catalog.settings_of(family, lease.params)
            folds = self._folds(lease, settings)
            return self._resumed(lease, folds, family, settings)
        except Exception as error:
            self._channel.tell(lease.lease_id, tells.failure(error))
            return None

    def _folds(self, lease: protocol.TrialLease, settings: catalog.Hyperparameters) -> Folds:
        split = _split(lease, settings)
        if split not in self._splits:
            self._splits[split] = _folds(lease, settings, self._data, self._work)
        return self._splits[split]

    @cached_property
    def _data(self) -> Dataset:
        return dataset.read(measured.data(self._work))

    def _resumed(
        self,
        lease: protocol.TrialLease,
        folds: Folds,
        family: catalog.Family,
        settings: catalog.Hyperparameters,
    ) -> Trial:
        epochs, patience = 1, 0
        if isinstance(settings, catalog.NetworkHyperparameters):
            counts = folds.counts(family.name, settings.early_stopping == "inner")
            epochs, patience = horizon(settings, counts), settings.patience
        direction = catalog.METRICS[folds.optimised[0]].direction
        found = curve.Curve(direction, epochs, patience)
        if lease.epoch is not None:
            found = curve.Curve(direction, lease.epoch, patience=0)
        path = self._work.checkpoints.get(lease.lease_id)
        if path is None:
            return Trial(lease, family, settings, found, epochs)
        points, states, self._best[lease.lease_id] = checkpoints.unpack(path)
        for point in points:
            found.add(point)
        self._kept[lease.lease_id] = time.monotonic()
        return Trial(lease, family, settings, found, epochs, len(points), states)

    def _advance(self, group: Group) -> list[Group]:
        """One epoch of a group; the groups to go on with: itself, or none."""
        try:
            scores = group.advance()
        except Exception as error:
            return self._after_failure(group, error)
        going, optimised = [], group.folds.optimised
        for trial, found in zip(group.trials, scores, strict=True):
            step = len(trial.curve.points) + 1
            point = curve.point(
                step,
                found.folds,
                optimised,
                found.train_loss,
                found.inner,
                found.pooled,
                found.shown,
            )
            trial.curve.add(point)
            self._channel.report(tells.report(trial.lease.lease_id, point))
            self._keep_best(trial, group)
            end = self._end(trial, group)
            if end is None:
                going.append(trial)
            else:
                self._tell(trial, group.folds, end)
        self._keep_checkpoints(group, going)
        group.keep(going)
        return [group] if going else []

    def _after_failure(self, group: Group, error: Exception) -> list[Group]:
        """Too little memory: smaller passes. Else one trial may have brought the others down: each
        tries alone, from where it joined the group.
        """
        if devices.is_out_of_memory(error) and (smaller := group.smaller()):
            devices.free()
            return [smaller]
        if len(group.trials) > 1:
            alone = [[trial] for trial in group.trials]
            return [g for one in alone for g in plan(one, group.folds, self._work.lanes)]
        for trial in group.trials:
            self._channel.tell(trial.lease.lease_id, tells.failure(error))
        return []

    def _end(self, trial: Trial, group: Group) -> protocol.Tell | None:
        """How the trial ended with its newest epoch; None: it goes on."""
        points = trial.curve.points
        if not points[-1].finite:
            return tells.not_finite(points[-1])
        decision = self._channel.decision(trial.lease.lease_id)
        notes = {**group.notes, "epochs": trial.epochs, "drops": trial.drops()}
        if decision is not None and decision.action == "prune":
            return tells.pruned(points[(decision.step or len(points)) - 1], notes)
        if trial.curve.ended:
            return tells.complete(trial.curve.chosen, notes)
        if decision is not None and decision.action in ("stop", "lost"):
            if decision.action == "stop":
                self._keep(trial, group)
            return tells.failed("stopped", f"the server said {decision.action}")
        return None

    def _tell(self, trial: Trial, folds: Folds, tell: protocol.Tell) -> None:
        lease_id = trial.lease.lease_id
        best = self._best.pop(lease_id, checkpoints.Best())
        if tell.state == "complete":
            if best.said is not None:
                self._channel.artifact(lease_id, protocol.OUT_OF_FOLD, out_of_fold.pack(best.said))
            if best.networks and (
                packed := fold_networks.pack(trial, folds, best.networks, tell.epoch)
            ):
                self._channel.artifact(lease_id, protocol.FOLD_NETWORKS, packed)
        self._channel.tell(lease_id, tell)

    def _keep_best(self, trial: Trial, group: Group) -> None:
        folds, lease = group.folds, trial.lease
        if not trial.curve.scores_by_newest or not out_of_fold.kept(folds):
            return
        said = out_of_fold.assemble(folds, group.predictions(trial))
        networks = group.networks(trial) if fold_networks.wanted(lease, folds) else ()
        self._best[lease.lease_id] = checkpoints.Best(said, networks)

    def _keep_checkpoints(self, group: Group, trials: Sequence[Trial]) -> None:
        now = time.monotonic()
        for trial in trials:
            last = self._kept.setdefault(trial.lease.lease_id, now)
            if now - last >= CHECKPOINT_SECONDS:
                self._keep(trial, group)

    def _keep(self, trial: Trial, group: Group) -> None:
        points, states = trial.curve.points, group.states(trial)
        if states:
            best = self._best.get(trial.lease.lease_id, checkpoints.Best())
            data = checkpoints.pack(points, states, best)
            self._channel.checkpoint(trial.lease.lease_id, points[-1].step, data)
            self._kept[trial.lease.lease_id] = time.monotonic()


def _split(lease: protocol.TrialLease, settings: catalog.Hyperparameters) -> Split:
    validation = measured.objective(lease).validation.model_dump_json()
    return validation, lease.study_seed, settings.train_share


def _folds(
    lease: protocol.TrialLease, settings: catalog.Hyperparameters, data: Dataset, work: Work
) -> Folds:
    objective = measured.objective(lease)
    task = catalog.task_of(catalog.FAMILIES[objective.model], data.schema.task)
    return Folds(
        dataset=data,
        validation=objective.validation,
        study_seed=lease.study_seed,
        optimised=measured.optimised(objective, task),
        recorded=measured.searched(objective, task),
        device=torch.device(work.device),
        train_share=settings.train_share,
    )
