"""Groups: trials that advance together, an epoch of all their lanes at a time."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers import generation
from workers.data.parts import Scored
from workers.models import MODELS, NetworkModel, storing
from workers.models.base import Arrays
from workers.training import costs, kernels, seeding
from workers.training.costs import Cost
from workers.training.estimators import EstimatorGroup
from workers.training.folds import Folds
from workers.training.lanes import Lane, Lanes, State, shape_of
from workers.training.scores import Scores, combine, predictions
from workers.training.trial import Trial, sets_aside


@dataclass(frozen=True)
class Seat:
    """Where a lane belongs: its trial's place in the group, its part and its restart."""

    trial: int
    part: int
    restart: int


@dataclass
class Pass:
    """Lanes that train as one batch, and their seats."""

    lanes: Lanes
    seats: list[Seat]


@dataclass
class Found:
    """What the lanes of a group came to in an epoch: by trial, then [restart][part]."""

    losses: dict[Seat, float] = field(default_factory=dict)
    shown: dict[Seat, float] = field(default_factory=dict)
    scores: dict[Scored, dict[Seat, dict[str, float]]] = field(
        default_factory=lambda: {"valid": {}, "inner": {}}
    )
    predictions: dict[Scored, dict[Seat, Tensor]] = field(
        default_factory=lambda: {"valid": {}, "inner": {}}
    )
    costs: dict[Seat, Cost] = field(default_factory=dict)


class NetworkGroup:
    """Trials of one family and batch size that can be lanes of one pass, each at its own epoch.

    A lane is one network: (trial, repeat, fold, restart). All lanes train in one pass, or in
    several, in turn, of at most `lanes` each: where that is faster on this machine, or where the
    memory would not do.
    """

    def __init__(self, trials: Sequence[Trial], folds: Folds, limit: int | None = None) -> None:
        self.folds, self._limit = folds, limit
        first = trials[0]
        model = MODELS[first.family.name]
        assert isinstance(model, NetworkModel)
        # Neighbours with one optimizer take their steps in one formula.
        order = model.order or (lambda settings: ())
        self.trials = sorted(trials, key=lambda t: (t.settings.optimizer, order(t.settings)))
        self._model = model
        self._inner = first.inner
        self._plan = kernels.Plan("batched", 1)
        self._most = 1  # lanes of a pass, once that is decided
        self._said: dict[Seat, Tensor] = {}  # the newest predictions of the rows that score

    @cached_property
    def _table(self) -> Any:
        return self.folds.table(self._model.layout, self._inner)

    @cached_property
    def _passes(self) -> list[Pass]:
        seats = [seat for at in range(len(self.trials)) for seat in self._seats_of(at)]
        settings = [trial.settings for trial in self.trials]
        self._plan = kernels.plan(self._model, settings, shape_of(self._table), len(seats))
        most = self._most = min(self._plan.lanes, self._limit or len(seats), len(seats))
        made = [self._pass(seats[at : at + most]) for at in range(0, len(seats), most)]
        self._catch_up(made)
        return made

    def advance(self) -> list[Scores]:
        """Train all lanes for one epoch and score them on the rows that they were not shown."""
        found = Found()
        for each in self._passes:
            with costs.timed(self.folds.device) as training:
                losses = self._train(each, [len(trial.curve.points) for trial in self.trials])
            found.losses |= dict(zip(each.seats, losses, strict=True))
            predicting = self._score(each, "valid", self.folds.measured, found)
            if self._inner:
                self._score(each, "inner", self.folds.watched, found)
            if not self.folds.generating:
                found.shown |= self._shown(each)
            if self.folds.costs:
                found.costs |= self._costs(each, training.seconds, predicting)
        self._said = found.predictions["valid"]
        return [self._scores(at, found) for at in range(len(self.trials))]

    def keep(self, trials: Sequence[Trial]) -> None:
        """Go on with these trials only: the lanes of the others leave their pass."""
        going = [at for at, trial in enumerate(self.trials) if trial in trials]
        if len(going) == len(self.trials):
            return
        places = {old: new for new, old in enumerate(going)}
        self.trials = [self.trials[at] for at in going]
        passes, self._passes = self._passes, []
        for each in passes:
            kept = [at for at, seat in enumerate(each.seats) if seat.trial in places]
            if kept:
                each.lanes.keep(kept)
                seats = [each.seats[at] for at in kept]
                each.seats = [Seat(places[s.trial], s.part, s.restart) for s in seats]
                self._passes.append(each)

    def smaller(self) -> NetworkGroup | None:
        """The same trials in smaller passes, to be trained again up to here; None: no smaller."""
        if self._most == 1:
            return None
        return NetworkGroup(self.trials, self.folds, self._most // 2)

    def joined(self, trials: Sequence[Trial]) -> NetworkGroup:
        """A group of these trials and its own, which go on from where they are."""
        own = [
            replace(trial, resumed=len(trial.curve.points), states=self.states(trial))
            for trial in self.trials
        ]
        return NetworkGroup([*own, *trials], self.folds, self._limit)

    def states(self, trial: Trial) -> list[State]:
        """The states of a trial's lanes, in the order (part, restart)."""
        at = self.trials.index(trial)
        found = {
            (seat.part, seat.restart): each.lanes.state(lane)
            for each in self._passes
            for lane, seat in enumerate(each.seats)
            if seat.trial == at
        }
        return [found[key] for key in sorted(found)]

    def predictions(self, trial: Trial) -> list[NDArray[np.float64]]:
        """What the newest epoch says of the rows that each part scores, (rows, outputs).

        Of several restarts the mean of an ensemble, else the first one's: a mean of scores has no
        predictions, and the best by training loss changes from epoch to epoch.
        """
        at, found = self.trials.index(trial), []
        for part, mask in enumerate(self._table.valid_mask):
            restarts = trial.settings.restarts if trial.ensemble else 1
            said = torch.stack([self._said[Seat(at, part, r)] for r in range(restarts)]).mean(0)
            found.append(said[: int((mask > 0).sum())].cpu().numpy())
        return found

    def networks(self, trial: Trial) -> list[Arrays]:
        """What each part's network is by now; those of `predictions`, so of an ensemble several."""
        at, parts = self.trials.index(trial), len(self._table.counts)
        restarts = trial.settings.restarts if trial.ensemble else 1
        found = {
            (seat.part, seat.restart): each.lanes.arrays(lane)
            for each in self._passes
            for lane, seat in enumerate(each.seats)
            if seat.trial == at and seat.restart < restarts
        }
        return [
            storing.named([found[part, restart] for restart in range(restarts)])
            for part in range(parts)
        ]

    @property
    def key(self) -> Hashable:
        """What a trial must agree in to join."""
        return _key(self._model, self.trials[0])

    @property
    def notes(self) -> dict[str, Any]:
        """How the lanes were computed."""
        most = max(len(each.seats) for each in self._passes)
        pooled = self.folds.notes(self._model.layout, self._inner)
        return {"kernel": self._plan.kernel, "lanes": most} | pooled

    def _seats_of(self, at: int) -> Iterator[Seat]:
        for part in range(len(self._table.counts)):
            for restart in range(self.trials[at].settings.restarts):
                yield Seat(at, part, restart)

    def _pass(self, seats: Sequence[Seat]) -> Pass:
        lanes = [self._lane(seat) for seat in seats]
        made = Lanes(self._model, lanes, self._table)
        for lane, seat in enumerate(seats):
            trial = self.trials[seat.trial]
            if trial.states:
                made.load(lane, trial.states[seat.part * trial.settings.restarts + seat.restart])
        return Pass(made, list(seats))

    def _lane(self, seat: Seat) -> Lane:
        trial = self.trials[seat.trial]
        repeat, fold = divmod(seat.part, self.folds.per_repeat)
        rng = seeding.generator(trial.lease.seed, repeat, fold, seat.restart)
        return Lane(trial.settings, seat.part, rng)

    def _catch_up(self, passes: Sequence[Pass]) -> None:
        """Repeat the epochs that were reported since the states that these passes began with.

        As many for each trial: they have advanced together since.
        """
        first = self.trials[0]
        for past in range(len(first.curve.points) - first.resumed):
            for each in passes:
                self._train(each, [trial.resumed + past for trial in self.trials])

    def _train(self, each: Pass, epochs: Sequence[int]) -> list[float]:
        """The epoch of that index for each trial; mean losses of the lanes on the way."""
        trials = [self.trials[seat.trial] for seat in each.seats]
        at = [epochs[seat.trial] for seat in each.seats]
        each.lanes.scale([t.factor(epoch) for t, epoch in zip(trials, at, strict=True)])
        counts = [self._table.counts[seat.part] for seat in each.seats]
        steps = [
            trial.steps_left(epoch, count)
            for trial, epoch, count in zip(trials, at, counts, strict=True)
        ]
        found: list[float] = each.lanes.epoch(steps).tolist()
        return found

    def _score(self, each: Pass, which: Scored, names: list[str], found: Found) -> float:
        """Score the lanes of a pass; the seconds that they took to predict."""
        if isinstance(each.lanes.network, generation.Generator):
            found.scores[which] |= self._generated(each, each.lanes.network, names)
            return 0.0
        with costs.timed(self.folds.device) as predicting:
            prediction = each.lanes.predict(which)
        found.predictions[which] |= dict(zip(each.seats, prediction, strict=True))
        ensembles = {t for t, trial in enumerate(self.trials) if trial.ensemble}
        plain = [at for at, seat in enumerate(each.seats) if seat.trial not in ensembles]
        scores = found.scores[which]
        if plain:
            seats = [each.seats[at] for at in plain]
            some = prediction if len(plain) == len(each.seats) else prediction[plain]
            scores |= self._measure(some, seats, which, names)
        for at, seat in enumerate(each.seats):
            if seat.trial in ensembles:
                self._add(seat, prediction[at], which, names, scores)
        return predicting.seconds

    def _shown(self, each: Pass) -> dict[Seat, float]:
        """The first metric of each lane on rows that it was trained on."""
        (name,) = self.folds.optimised[:1]
        found = self._measure(each.lanes.predict("shown"), each.seats, "shown", [name])
        return {seat: measured[name] for seat, measured in found.items()}

    def _generated(
        self, each: Pass, network: generation.Generator, names: list[str]
    ) -> dict[Seat, dict[str, float]]:
        """How near the rows that each lane makes are to those it was not shown."""
        against = [self.folds.generations[seat.part] for seat in each.seats]
        seeds = [
            [self.trials[s.trial].lease.seed, *divmod(s.part, self.folds.per_repeat)]
            for s in each.seats
        ]
        found = generation.measure(network, against, seeds, names)
        values = {name: tensor.tolist() for name, tensor in found.items()}
        return {s: {n: v[at] for n, v in values.items()} for at, s in enumerate(each.seats)}

    def _add(
        self,
        seat: Seat,
        prediction: Tensor,
        which: Scored,
        names: list[str],
        scores: dict[Seat, dict[str, float]],
    ) -> None:
        """Average the predictions of a part's restarts; the last one brings the score of all."""
        key = (which, seat.trial, seat.part)
        total = self._sums.pop(key, 0) + prediction
        restarts = self.trials[seat.trial].settings.restarts
        if seat.restart < restarts - 1:
            self._sums[key] = total
            return
        measured = self._measure((total / restarts).unsqueeze(0), [seat], which, names)
        scores |= {Seat(seat.trial, seat.part, r): measured[seat] for r in range(restarts)}

    @cached_property
    def _sums(self) -> dict[tuple[Scored, int, int], Tensor]:
        return {}

    def _measure(
        self, prediction: Tensor, seats: Sequence[Seat], which: Scored, names: list[str]
    ) -> dict[Seat, dict[str, float]]:
        parts = [seat.part for seat in seats]
        found = self.folds.measure(names, prediction, self._table, parts, which)
        values = {name: each.tolist() for name, each in found.items()}
        return {s: {name: values[name][at] for name in names} for at, s in enumerate(seats)}

    def _costs(self, each: Pass, training: float, predicting: float) -> dict[Seat, Cost]:
        sizes = each.lanes.network.sizes.flatten().tolist()
        rows = [self._table.counts[seat.part] for seat in each.seats]
        scored = self._table.valid_inputs.shape[1]
        found = costs.shared(sizes, rows, training, predicting, scored)
        return dict(zip(each.seats, found, strict=True))

    def _pooled(self, which: Scored) -> list[str]:
        return self.folds.pooled(self._model.layout, self._inner, which)

    def _scores(self, at: int, found: Found) -> Scores:
        trial = self.trials[at]
        restarts, parts = trial.settings.restarts, len(self._table.counts)

        def by_seat(values: Mapping[Seat, Any]) -> list[list[Any]]:
            return [[values[Seat(at, part, r)] for r in range(restarts)] for part in range(parts)]

        how, losses = trial.settings.restart_score, by_seat(found.losses)
        inner = by_seat(found.scores["inner"]) if self._inner else None
        shown = None if self.folds.generating else by_seat(found.shown)
        scores = combine(how, by_seat(found.scores["valid"]), losses, inner, shown)
        pooled: dict[Scored, dict[str, float]] = {"valid": {}, "inner": {}}
        for which, kept in found.predictions.items():
            if kept and (names := self._pooled(which)):
                said = predictions(how, by_seat(kept), losses)
                pooled[which] = self.folds.measure_pooled(names, said, self._table, which)
        if self.folds.costs:
            before = costs.before(trial.curve.points, self.folds.optimised)
            took = by_seat(found.costs)
            scores.folds.update(costs.of_trial(self.folds.costs, took, trial.ensemble, before))
        return replace(
            scores, pooled=pooled["valid"], inner=[*pooled["inner"].values()] or scores.inner
        )


Group = NetworkGroup | EstimatorGroup


def plan(
    trials: Sequence[Trial],
    folds: Folds,
    limit: int | None = None,
    running: Sequence[Group] = (),
) -> list[Group]:
    """The fewest groups: networks that can share a pass together, everything else alone.

    `limit`: lanes of a pass, at most. `running` groups take in what can share their passes, on the
    same folds.
    """
    groups: list[Group] = []
    alike: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        model = MODELS[trial.family.name]
        if isinstance(model, NetworkModel):
            alike.setdefault(_key(model, trial), []).append(trial)
        else:
            groups.append(EstimatorGroup(trial, folds))
    for group in running:
        shares = isinstance(group, NetworkGroup) and group.folds is folds
        if isinstance(group, NetworkGroup) and shares and group.key in alike:
            groups.append(group.joined(alike.pop(group.key)))
        else:
            groups.append(group)
    return groups + [NetworkGroup(together, folds, limit) for together in alike.values()]


def _key(model: NetworkModel, trial: Trial) -> Hashable:
    return pass_of(trial.family.name, model, trial.settings)


def pass_of(family: str, model: NetworkModel, settings: Any) -> Hashable:
    """Equal for networks that can train in one pass."""
    same = settings.batch_size, sets_aside(settings)
    return family, model.kind(settings), model.shape(settings), same
