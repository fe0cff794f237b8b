"""One study of every model family, run to its end by real processes, then tried on fresh folds.

Each study is created through the REST API of a server of its own, with nothing held out, and
workers train it until it has finished. What won is then evaluated by hand in a second study, whose
seed makes other folds: once, trained for as many epochs as won, so that nothing about that value
was chosen by it. (Where rows stand in the order of time there is one way to make folds; there only
initial weights and the order of batches are new.)

`ours` is the value on the fresh folds, `peer` the best baseline's there. Lines for the search
follow: its best value, and the seconds its workers took.

usage: python -m benchmarks.families [--quick] [--only NAME ...] [--list]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass, field
from typing import Any

from benchmarks import service, trivial
from benchmarks.lines import emit
from hpo_service import catalog, protocol

SEARCH_SEED, FRESH_SEED = 0, 1


@dataclass(frozen=True)
class Case:
    """A study. `at_least`: the value to reach on fresh folds, instead of a trivial predictor's.

    `quick` are the trials, `quick_epochs` the epochs of the short form.
    """

    model: str
    dataset: str
    trials: int
    quick: int
    epochs: int
    quick_epochs: int
    params: dict[str, Any] = field(default_factory=dict)
    space: dict[str, Any] | None = None
    metric: str | None = None
    at_least: float | None = None
    sampler: str = "tpe"
    pruner: dict[str, Any] = field(default_factory=lambda: {"name": "asha", "min_resource": 5})
    pack: int = 4
    workers: int = 2
    folds: int = 5

    def spec(self, name: str, quick: bool) -> dict[str, Any]:
        """The study as a user writes it."""
        epochs = self.quick_epochs if quick else self.epochs
        return {
            "name": name,
            "objective": {
                "kind": "train",
                "model": self.model,
                "dataset": self.dataset,
                "metrics": [self.metric] if self.metric else None,
                "params": {**self.params, "epochs": epochs},
                "validation": {"folds": self.folds},
                "holdout": 0,
            },
            "search_space": self.space,
            "sampler": {"name": self.sampler},
            "pruner": self.pruner,
            "budget": {"trials": self.quick if quick else self.trials},
            "seed": SEARCH_SEED,
        }


# Moved by a pixel, a digit of 8x8 loses a stroke.
STILL = {"schedule": "cosine", "shift": 0}
MEDIAN = {"name": "median", "n_warmup_steps": 8}
LONG = {"name": "asha", "min_resource": 15}

CASES = {
    "perceptron-iris": Case("perceptron", "iris", 30, 10, 40, 20),
    "mlp-digits": Case("mlp", "digits", 40, 8, 40, 20, at_least=0.974),
    "mlp-breast_cancer": Case("mlp", "breast_cancer", 40, 8, 40, 20, at_least=0.962),
    "mlp-diabetes": Case("mlp", "diabetes", 40, 8, 40, 20, at_least=0.40),
    "cnn-digits": Case("cnn", "digits", 30, 4, 30, 10, STILL, at_least=0.993, pruner=MEDIAN),
    "capsnet-digits": Case("capsnet", "digits", 16, 3, 24, 8, {"shift": 0}),
    "rnn-elman": Case("rnn", "japanese_vowels", 24, 4, 30, 15, {"cell": "elman"}),
    "rnn-lstm": Case("rnn", "japanese_vowels", 24, 4, 30, 15, {"cell": "lstm"}),
    "rnn-gru": Case("rnn", "japanese_vowels", 24, 4, 30, 15, {"cell": "gru"}, at_least=0.967),
    "rnn-forecast": Case("rnn", "sunspots", 24, 4, 40, 20),
    "rnn-next-symbol": Case("rnn", "descriptions", 12, 3, 20, 4, metric="perplexity"),
    "rnn-text": Case("rnn", "sentences", 24, 4, 30, 10),
    "gan-digits": Case("gan", "digits", 16, 4, 100, 20),
    "gan-breast_cancer": Case("gan", "breast_cancer", 20, 4, 150, 20, pruner=LONG),
}


@dataclass(frozen=True)
class Outcome:
    """What a study came to: its winner, its baselines and what it took."""

    study: protocol.Study
    winner: protocol.Trial
    folds: list[float]
    baselines: dict[str, float]
    spent: service.Spent


def search(at: service.Service, name: str, case: Case, quick: bool) -> Outcome:
    """The study to its end."""
    at.create(case.spec(name, quick))
    spent = at.work(name, workers=case.workers, pack=case.pack)
    return _outcome(at, name, spent)


def again(at: service.Service, found: Outcome) -> Outcome:
    """The winner on the folds of another seed, as one trial by hand."""
    spec, best = found.study.spec, found.winner
    assert spec is not None
    assert spec.search_space is not None
    assert isinstance(spec.objective, protocol.TrainObjective)
    fixed = spec.objective.params
    if best.epoch is not None and "epochs" in fixed:
        fixed = fixed | {"epochs": best.epoch, "patience": 0}
    name = f"{spec.name}-again"
    fresh = {
        "name": name,
        "objective": spec.objective.model_copy(update={"params": fixed}),
        "pruner": protocol.Plugin(name="none"),
        "budget": protocol.Budget(trials=1),
        "seed": FRESH_SEED,
    }
    at.client.create_study(spec.model_copy(update=fresh))
    given = {n: value for n, value in best.params.items() if n in spec.search_space}
    at.client.add_trial(name, protocol.ManualTrial.model_validate({"params": given}))
    return _outcome(at, name, at.work(name))


def _outcome(at: service.Service, name: str, spent: service.Spent) -> Outcome:
    study, final = at.client.study(name), at.client.final(name)
    if not study.best:
        failed = at.client.trials(name, state="fail", limit=1).trials
        raise RuntimeError(f"{name}: no trial has completed: {study.counts}: {failed}")
    best = study.best[0]
    folds = [value for value in (best.folds or [[]])[0] if value is not None]
    baselines = {each.name: each.values[0] for each in final.baselines if each.values}
    return Outcome(study, at.client.trial(name, best.number), folds, baselines, spent)


@dataclass(frozen=True)
class Peers:
    """What a value is held against: the best baseline, if any, and what it takes to be met."""

    name: str | None
    value: float | None
    target: str
    bound: float


def peers(case: Case, found: Outcome, metric: str, seed: int) -> Peers:
    """The peers on the same folds."""
    higher = catalog.METRICS[metric].direction == "maximize"
    if metric == "mmd":
        known = found.winner.metrics
        bound = known["mmd_independent"] or 0.0
        target = f"< {bound:.4f}, columns drawn independently"
        return Peers("a fitted Gaussian", known["mmd_gaussian"], target, bound)
    pick = max if higher else min
    name = pick(found.baselines, key=found.baselines.__getitem__, default=None)
    value = found.baselines[name] if name else None
    if case.at_least is not None:
        return Peers(name, value, f">= {case.at_least}", case.at_least)
    assert found.study.spec is not None
    assert isinstance(found.study.spec.objective, protocol.TrainObjective)
    validation = found.study.spec.objective.validation
    guess, bound = trivial.score(case.dataset, metric, validation, seed)
    if metric == "perplexity":
        name, value = "which symbol follows which", trivial.bigram(case.dataset, validation, seed)
    return Peers(name, value, f"{'>' if higher else '<'} {bound:.4f}, {guess}", bound)


def report(name: str, case: Case, quick: bool, found: Outcome, fresh: Outcome) -> None:
    """The lines of a case."""
    assert found.study.spec is not None
    assert isinstance(found.study.spec.objective, protocol.TrainObjective)
    metric = (found.study.spec.objective.metrics or [""])[0]
    ours, best = _value(fresh), _value(found)
    against, before = (
        peers(case, *each) for each in ((fresh, metric, FRESH_SEED), (found, metric, SEARCH_SEED))
    )
    higher = catalog.METRICS[metric].direction == "maximize"
    met = ours >= against.bound if higher else ours <= against.bound
    emit(
        "families", f"{name}: the winner on fresh folds", metric, ours,
        peer=against.value, peer_name=against.name and f"{against.name}, same folds",
        target=against.target, met=met,
        more={
            "command": f"python -m benchmarks.families{' --quick' * quick} --only {name}",
            "standard_error": _standard_error(fresh.folds),
            "params": found.winner.params,
            "epochs": found.winner.epoch,
            "metrics": fresh.winner.metrics,
        },
    )  # fmt: skip
    counts = found.study.counts
    case_name = f"{name}: the best of {found.study.n_trials} trials"
    emit(
        "families", case_name, metric, best,
        peer=before.value, peer_name=before.name and f"{before.name}, same folds",
        more={"complete": counts.complete, "pruned": counts.pruned, "failed": counts.fail},
    )  # fmt: skip
    emit(
        "families", f"{name}: seconds of the search, {case.workers} workers", "s", found.spent.wall,
        more={"processor_seconds": round(found.spent.processor, 1)},
    )  # fmt: skip


def _value(found: Outcome) -> float:
    assert found.winner.values is not None
    return found.winner.values[0]


def _standard_error(folds: list[float]) -> float | None:
    """Of the mean over folds; rough, since folds share training rows."""
    return round(statistics.stdev(folds) / len(folds) ** 0.5, 6) if len(folds) > 1 else None


def main() -> None:
    """Run the cases asked for, each to its lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few trials and epochs")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME", help="these cases")
    parser.add_argument("--list", action="store_true", help="the names of the cases")
    options = parser.parse_args()
    if options.list:
        sys.stdout.writelines(f"{name}\n" for name in CASES)
        return
    with service.running() as at:
        for name in options.only or CASES:
            found = search(at, name, CASES[name], options.quick)
            report(name, CASES[name], options.quick, found, again(at, found))


if __name__ == "__main__":
    main()
