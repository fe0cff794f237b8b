"""Common claims about tuning networks, tried on real data: which of them hold here?

Each claim says that one way is better than another. Both are trained on the same rows and scored on
the same others, on one split after another; the mean difference stands with its 95 % interval over
these seeds, which is about other splits of the same rows and other first weights, not about other
data. A strength (of a penalty, a learning rate) is the best of a few on seeds of its own. The
claim holds where the whole interval is above 0. On one thread.

usage: python -m benchmarks.claims [--quick] [--only NAME ...]
       python -m benchmarks.claims --tables benchmarks/results/claims.jsonl
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from benchmarks import claim_tables, searches
from benchmarks.arms import Arm, Case, Measured, Setting, difference, measure
from benchmarks.lines import emit
from hpo_service import catalog
from hpo_service.datasets.builtin import DATASETS

SEEDS, CHOOSING, SEARCHES, EPOCHS = 12, 3, 3, 10
QUICK_SEEDS, QUICK_CHOOSING, QUICK_SEARCHES = 3, 1, 1

Pair = tuple[Arm, Arm]


@dataclass(frozen=True)
class Claim:
    """That in each of the pairs, which may depend on the data, the first is better."""

    said: str
    cases: tuple[Case, ...]
    pairs: Callable[[Case], list[Pair]]


RATES: tuple[dict[str, Any], ...] = ({"learning_rate": 1e-3}, {"learning_rate": 3e-3})


def depths(_case: Case) -> list[Pair]:
    """2 to 10 hidden layers against one."""
    base = {"hidden_units": 64, "epochs": 30}
    one, *more = (
        Arm.of(f"{n} layer{'s' * (n > 1)}", base | {"hidden_layers": n}, *RATES)
        for n in range(1, 11)
    )
    return [(arm, one) for arm in more]


def activations(_case: Case) -> list[Pair]:
    """Swish against relu, in a usual and in a deep network."""
    found = []
    for n in (2, 6):
        base = {"hidden_units": 64, "hidden_layers": n, "epochs": 30}
        swish, relu = (
            Arm.of(f"{each}, {n} layers", base | {"activation": each}, *RATES)
            for each in ("swish", "relu")
        )
        found.append((swish, relu))
    return found


def against_overfitting(_case: Case) -> list[Pair]:
    """A network with many more weights than rows, and with each remedy."""
    base = {"hidden_layers": 2, "hidden_units": 64, "epochs": 60}
    plain = Arm.of("without", base)
    inner = {"early_stopping": "inner"}
    remedies = (
        Arm.of("retraining, best of 5", base, {"restarts": 5, "restart_score": "best"}),
        Arm.of("averaging 5", base, {"restarts": 5, "restart_score": "ensemble"}),
        Arm.of("early stopping", base, *(inner | {"patience": n} for n in (5, 20))),
        Arm.of("weight decay", base, *({"weight_decay": a} for a in (1e-3, 1e-2, 1e-1))),
        Arm.of("L1", base, *({"l1": a} for a in (1e-4, 1e-3, 1e-2))),
        Arm.of("performance ratio", base, *({"performance_ratio": a} for a in (0.5, 0.9, 0.99))),
        Arm.of("dropout", base, *({"dropout": a} for a in (0.25, 0.5))),
        Arm.of("fewer units", base, {"hidden_units": 8}, {"hidden_units": 16}),
    )
    return [(remedy, plain) for remedy in remedies]


def against_underfitting(_case: Case) -> list[Pair]:
    """A network of two hidden units, and with each remedy."""
    base = {"hidden_layers": 1, "hidden_units": 2, "epochs": 30}
    plain = Arm.of("without", base)
    remedies = (
        Arm.of("more units: 64", base, {"hidden_units": 64}),
        Arm.of("more layers: 3", base, {"hidden_layers": 3}),
        Arm.of("more epochs: 90", base, {"epochs": 90}),
        Arm.of("retraining, best of 5", base, {"restarts": 5, "restart_score": "best"}),
        Arm.of("averaging 5", base, {"restarts": 5, "restart_score": "ensemble"}),
    )
    return [(remedy, plain) for remedy in remedies]


def networks(case: Case) -> list[Pair]:
    """The best of some MLPs, and on images a CNN, against the best of the classical families."""
    task = DATASETS[case.dataset].load().schema.task
    families = [f.name for f in catalog.FAMILIES.values() if not f.network and task in f.tasks]
    best = Arm("the best classical", tuple(Setting({}, name) for name in families))
    changes = [
        rate | {"weight_decay": decay, "dropout": dropout}
        for rate in RATES
        for decay, dropout in ((0.0, 0.0), (1e-3, 0.0), (1e-2, 0.0), (0.0, 0.25))
    ]
    mlp = Arm.of("MLP", {"hidden_units": 64, "epochs": 30}, *changes)
    cnn = Arm("CNN", (Setting({"epochs": 20, "schedule": "cosine"}, "cnn"),))
    return [(arm, best) for arm in ([mlp, cnn] if case.dataset == "digits" else [mlp])]


# Most claims: many rows score, so that differences show, and few train, so that there are some.
FEW = (
    Case("digits", "accuracy", 0.8),
    Case("breast_cancer", "log_loss", 0.8),
    Case("diabetes", "r2", 0.5),
)
CLAIMS = {
    "depth": Claim("more hidden layers are better than one", FEW, depths),
    "swish": Claim("swish is better than relu", FEW, activations),
    "overfitting": Claim(
        "a remedy helps a network that overfits",
        (Case("digits", "accuracy", 0.9), Case("breast_cancer", "log_loss", 0.9), FEW[2]),
        against_overfitting,
    ),
    "underfitting": Claim(
        "a remedy helps a network that underfits",
        (Case("digits", "accuracy", 0.5), Case("wine", "accuracy", 0.5)),
        against_underfitting,
    ),
    "network": Claim(
        "a network is better than the best classical model",
        (
            Case("breast_cancer", "accuracy", 0.3),
            Case("wine", "accuracy", 0.3),
            Case("iris", "accuracy", 0.3),
            Case("diabetes", "r2", 0.3),
            Case("digits", "accuracy", 0.3),
        ),
        networks,
    ),
}
SEARCH = "search"
ORDER = (("random", "grid"), ("tpe", "random"), ("gp", "random"), ("tpe", "grid"), ("gp", "grid"))


def run(name: str, quick: bool) -> None:
    """The lines of a claim, on each of its data sets."""
    choosing, scoring = (QUICK_CHOOSING, QUICK_SEEDS) if quick else (CHOOSING, SEEDS)
    claim = CLAIMS[name]
    for case in claim.cases:
        pairs = claim.pairs(case)
        arms = list({arm.name: arm for pair in pairs for arm in pair}.values())
        found = {each.arm.name: each for each in measure(case, arms, choosing, scoring)}
        for one, other in pairs:
            report(name, claim.said, case, found[one.name], found[other.name])


def run_search(quick: bool) -> None:
    """The lines of the claim about samplers."""
    tables, each = (QUICK_SEEDS, QUICK_SEARCHES) if quick else (SEEDS, SEARCHES)
    found = searches.measure(tables, each, EPOCHS)
    said = f"grid < random < Bayesian, {searches.BUDGET} trials"
    for one, other in ORDER:
        report(SEARCH, said, searches.CASE, found[one], found[other])


def report(claim: str, said: str, case: Case, one: Measured, other: Measured) -> None:
    """The line of a pair."""
    found = difference(case, one, other)
    emit(
        "claims", f"{said}: {one.arm.name}, {case.dataset}", case.metric, one.mean,
        peer=other.mean, peer_name=other.arm.name,
        target="the interval of the difference above 0", met=found.answer == "holds",
        more={
            "claim": claim,
            "dataset": case.dataset,
            "compared": one.arm.name,
            "better_by": round(found.mean, 6),
            "low": round(found.low, 6),
            "high": round(found.high, 6),
            "answer": found.answer,
            "seeds": len(one.values),
            "settings": [_told(each) for each in (one, other)],
        },
    )  # fmt: skip


def _told(measured: Measured) -> dict[str, Any]:
    return {"model": measured.setting.model, **measured.setting.params}


def main(given: Sequence[str] | None = None) -> None:
    """Try the claims asked for."""
    names = (SEARCH, *CLAIMS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few seeds")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="these claims")
    parser.add_argument("--tables", type=Path, help="print the README's tables of these lines")
    options = parser.parse_args(given)
    if options.tables:
        sys.stdout.write(claim_tables.of(options.tables.read_text()))
        return
    with threadpool_limits(1):
        for name in options.only or names:
            if name == SEARCH:
                run_search(options.quick)
            else:
                run(name, options.quick)


if __name__ == "__main__":
    main()
