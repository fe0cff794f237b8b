"""Whether a verdict can be believed: studies through the REST API, each with another seed.

Where no network is known to beat the classical models (three small tables), verdicts must hardly
ever claim one; where one does (a convolutional network on images), they must say so. Between the
two lies a network that is better by little: how often that is found, its power, is shown beside the
smallest difference that the test finds in four of five cases.

Each study is searched at random, with nothing held out and the baselines on the same folds, by a
server of its own and one worker; its verdict is the one that any user reads.

usage: python -m benchmarks.verdicts [--quick] [--only NAME ...] [--list]
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy import stats

from benchmarks import service
from benchmarks.lines import emit
from hpo_service import protocol

STUDIES = 20
FOLDS = 5
# Of all verdicts where there is no gain, those that may claim one; of all where there is one, those
# that must.
MOST, LEAST = 4 / 60, 18 / 20


@dataclass(frozen=True)
class Case:
    """Studies alike but for their seed. `gain`: whether the winner is better, None where this is
    not for a target to say. `quick`: studies of the short form.
    """

    model: str
    dataset: str
    gain: bool | None
    trials: int
    params: dict[str, Any]
    space: dict[str, Any]
    baselines: list[str] | bool = True
    pruner: dict[str, Any] = field(default_factory=lambda: {"name": "none"})
    pack: int = 8
    quick: int = 2

    def spec(self, name: str, seed: int) -> dict[str, Any]:
        """The study as a user writes it."""
        return {
            "name": f"{name}-{seed}",
            "objective": {
                "kind": "train",
                "model": self.model,
                "dataset": self.dataset,
                "params": self.params,
                "validation": {"folds": FOLDS},
                "holdout": 0,
                "baselines": self.baselines,
            },
            "search_space": self.space,
            "sampler": {"name": "random"},
            "pruner": self.pruner,
            "budget": {"trials": self.trials},
            "seed": seed,
        }


def _between(low: float, high: float) -> dict[str, Any]:
    return {"type": "float", "low": low, "high": high, "log": True}


MLP: dict[str, Any] = {
    "hidden_layers": {"type": "int", "low": 1, "high": 2},
    "hidden_units": {"type": "int", "low": 16, "high": 128, "log": True},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5},
    "weight_decay": _between(1e-6, 1e-2),
    "learning_rate": _between(1e-3, 3e-2),
}
SMALL = {"epochs": 25, "activation": "swish"}
# Near what won the search of a CNN in benchmarks/results/families.jsonl, but with small kernels,
# and few channels, which cost a tenth: chosen by the accuracy of a seed that is none of these.
GOOD = {
    "epochs": 25, "schedule": "cosine", "shift": 0, "hidden_layers": 3, "channels": 16, "kernel": 3,
    "pooling": "average", "head": "global", "initialization": "orthogonal", "batch_size": 64,
    "weight_decay": 0.006,
}  # fmt: skip
NEAR = {
    "dropout": {"type": "float", "low": 0.1, "high": 0.2},
    "learning_rate": _between(3e-3, 6e-3),
}

# 15 trials pay for three settings on fresh folds, 10 for two: the best and the default.
CASES = {
    "mlp-breast_cancer": Case("mlp", "breast_cancer", False, 15, SMALL, MLP),
    "mlp-wine": Case("mlp", "wine", False, 15, SMALL, MLP),
    "mlp-diabetes": Case("mlp", "diabetes", False, 15, SMALL, MLP),
    "cnn-digits": Case("cnn", "digits", True, 10, GOOD, NEAR, quick=1),
    "mlp-logistic-digits": Case("mlp", "digits", None, 10, SMALL, MLP, ["logistic_regression"]),
}


@dataclass(frozen=True)
class Judged:
    """The verdicts of a case's studies, and the seconds that all of them took."""

    verdicts: list[protocol.Verdict]
    seconds: float

    @property
    def better(self) -> int:
        """How many claim a gain."""
        return sum(each.answer == "better" for each in self.verdicts)


def judge(at: service.Service, name: str, case: Case, studies: int) -> Judged:
    """The studies to their ends."""
    made = [at.create(case.spec(name, seed)).name for seed in range(studies)]
    spent = at.work(*made, pack=case.pack)
    return Judged([_verdict(at, study) for study in made], spent.wall)


def _verdict(at: service.Service, study: str) -> protocol.Verdict:
    final = at.client.final(study)
    if final.verdict is None:
        raise RuntimeError(f"{study} has no verdict: {final.state}, {final.error}, {final.notes}")
    return final.verdict


def report(name: str, case: Case, judged: Judged) -> None:
    """The lines of a case: how many verdicts claim a gain, and what they could have seen."""
    found, studies = judged.verdicts, len(judged.verdicts)
    least = max(1, math.floor(LEAST * studies))
    share = stats.binomtest(judged.better, studies).proportion_ci(method="wilson")
    emit(
        "verdicts", f"{name}: verdicts that say better", "verdicts", judged.better,
        target=f">= {least} of {studies}" if case.gain else None,
        met=judged.better >= least if case.gain else None,
        more={
            "studies": studies,
            "answers": Counter(each.answer for each in found),
            "share": round(judged.better / studies, 3),
            "share_interval": [round(share.low, 3), round(share.high, 3)],
            "baselines": Counter(each.baseline for each in found),
            "test": found[0].test,
            "seconds_per_study": round(judged.seconds / studies, 1),
        },
    )  # fmt: skip
    differences = [each.difference for each in found]
    emit(
        "verdicts", f"{name}: smallest difference found in four of five cases, median",
        found[0].metric, statistics.median(each.detectable or math.inf for each in found),
        peer=statistics.fmean(differences), peer_name="mean difference to the best baseline",
        more={"differences": [round(min(differences), 4), round(max(differences), 4)]},
    )  # fmt: skip


def report_false(every: Sequence[Judged]) -> None:
    """The line of all cases without a gain."""
    studies = sum(len(each.verdicts) for each in every)
    claimed, most = sum(each.better for each in every), max(1, round(MOST * studies))
    emit(
        "verdicts", "no gain to claim: verdicts that say better", "verdicts", claimed,
        target=f"<= {most} of {studies}", met=claimed <= most,
    )  # fmt: skip


def main() -> None:
    """Run the cases asked for, each to its lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one or two studies a case")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME", help="these cases")
    parser.add_argument("--list", action="store_true", help="the names of the cases")
    options = parser.parse_args()
    if options.list:
        sys.stdout.writelines(f"{name}\n" for name in CASES)
        return
    without = []
    with service.running() as at:
        for name in options.only or CASES:
            case = CASES[name]
            judged = judge(at, name, case, case.quick if options.quick else STUDIES)
            report(name, case, judged)
            without += [judged] if case.gain is False else []
    if without:
        report_false(without)


if __name__ == "__main__":
    main()
