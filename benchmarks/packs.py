"""The same study with trials one at a time and with trials packed, by one worker on one thread.

Random settings of an MLP on digits, 5 folds each, through the REST API of a server of its own:
narrow networks (16 to 64 units a layer), where packing is to pay, and wide ones (64 to 256),
where it must not cost. Random search proposes the same in any company, and a lane computes the
same, so mean values may differ by what the last bits grow to, and by no more.

usage: python -m benchmarks.packs [--quick]
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from typing import Any

from benchmarks import service
from benchmarks.lines import emit
from hpo_service import catalog, protocol
from hpo_service.client import Client

PACK = 16
WIDTHS = {"narrow": (16, 64), "wide": (64, 256)}
LEAST = {"narrow": 1.5, "wide": 0.95}


@dataclass(frozen=True)
class Run:
    """A finished study: seconds from its first lease to its end, and its trials by number."""

    seconds: float
    spent: service.Spent
    trials: list[protocol.Trial]


def study(at: service.Service, widths: str, pack: int, trials: int, epochs: int) -> Run:
    """The study with so many trials in a pack."""
    name = f"{widths}-{pack}"
    low, high = WIDTHS[widths]
    units = protocol.IntRange(type="int", low=low, high=high, log=True)
    spec: dict[str, Any] = {
        "name": name,
        "objective": {
            "kind": "train",
            "model": "mlp",
            "dataset": "digits",
            "params": {"epochs": epochs},
            "validation": {"folds": 5},
            "holdout": 0,
            "baselines": False,
        },
        "search_space": catalog.FAMILIES["mlp"].default_space | {"hidden_units": units},
        "sampler": {"name": "random"},
        "budget": {"trials": trials},
    }
    at.create(spec)
    spent = at.work(name, pack=pack)
    found = _trials(at.client, name)
    begun = min(each.started_at for each in found if each.started_at)
    ended = max(each.ended_at for each in found if each.ended_at)
    return Run((ended - begun).total_seconds(), spent, found)


def _trials(client: Client, name: str) -> list[protocol.Trial]:
    found: list[protocol.Trial] = []
    after: int | None = 0
    while after is not None:
        page = client.trials(name, after=after)
        found, after = found + page.trials, page.next
    return found


def compare(widths: str, alone: Run, packed: Run) -> None:
    """The lines of one pair of studies."""
    case = f"{len(alone.trials)} MLPs of {WIDTHS[widths][0]} to {WIDTHS[widths][1]} units"
    peer, least = "one trial at a time", LEAST[widths]
    emit(
        "packs", f"{case}, {PACK} in a pack", "s", packed.seconds,
        peer=alone.seconds, peer_name=peer,
        target=f"ratio >= {least}", met=alone.seconds / packed.seconds >= least,
    )  # fmt: skip
    emit(
        "packs", f"{case}, {PACK} in a pack, start and end of the worker included",
        "processor s", packed.spent.processor, peer=alone.spent.processor, peer_name=peer,
    )  # fmt: skip
    pairs = list(zip(alone.trials, packed.trials, strict=True))
    differing = sum(one.params != two.params for one, two in pairs)
    emit(
        "packs", f"{case}: trials proposed with other parameters", "trials", differing,
        target="== 0", met=differing == 0,
    )  # fmt: skip
    _compare_values(case, pairs)


def _compare_values(case: str, pairs: list[tuple[protocol.Trial, protocol.Trial]]) -> None:
    both = [(one.values[0], two.values[0]) for one, two in pairs if one.values and two.values]
    differences = [two - one for one, two in both]
    mean = statistics.fmean(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5
    emit(
        "packs", f"{case}: mean accuracy, {PACK} in a pack", "accuracy",
        statistics.fmean(two for _, two in both),
        peer=statistics.fmean(one for one, _ in both), peer_name="one trial at a time",
        target="the mean difference within 2 standard errors of 0", met=abs(mean) <= 2 * error,
        more={
            "difference": mean,
            "standard_error": error,
            "compared": len(both),
            "other states": sum(one.state != two.state for one, two in pairs),
        },
    )  # fmt: skip


def main() -> None:
    """Run both pairs of studies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer trials")
    trials = 24 if parser.parse_args().quick else 100
    with service.running() as at:
        for widths in WIDTHS:
            alone, packed = (study(at, widths, pack, trials, epochs=20) for pack in (1, PACK))
            compare(widths, alone, packed)


if __name__ == "__main__":
    main()
