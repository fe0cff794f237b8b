"""Convolutional and recurrent networks: five lanes as the engine runs them, and one after another.

The engine takes one pass or several by what it has measured on this machine; here it measures
anew. It must never be slower than the same lanes one after another by more than 5 %. Beside it
stands, for information, what PyTorch users write for one network, five times. On one thread, in
processor time, batches of 32 rows, Adam; all ways in turn, medians.

usage: python -m benchmarks.architectures [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.lines import emit
from benchmarks.rows import table
from hpo_service import catalog
from workers.data.parts import Table
from workers.models import MODELS, NetworkModel
from workers.training import kernels, seeding
from workers.training.lanes import Lane, Lanes, shape_of

LANES, BATCH, LEAST = 5, 32, 0.95
RNNS = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@dataclass(frozen=True)
class Case:
    """A network of a family on a data set."""

    name: str
    family: str
    dataset: str
    params: dict[str, Any]


CASES = [
    Case("small CNN, 8x8, 8 and 16 channels", "cnn", "digits", {"channels": 8}),
    Case("medium CNN, 8x8, 32 and 64 channels", "cnn", "digits", {"channels": 32}),
    Case("large CNN, 28x28, 16 and 32 channels", "cnn", "mnist5k", {"channels": 16}),
    *[
        Case(
            f"{size} {cell}, {units} units, up to 29 steps",
            "rnn",
            "japanese_vowels",
            {"cell": cell, "hidden_units": units},
        )
        for cell in RNNS
        for size, units in (("small", 16), ("medium", 64), ("large", 128))
    ],
]


def passes(case: Case, rows: Table, most: int) -> list[Lanes]:
    """A lane for each fold, at most so many in one pass."""
    model, settings = MODELS[case.family], _settings(case)
    assert isinstance(model, NetworkModel)
    lanes = [Lane(settings, part, seeding.generator(0, 0, part)) for part in range(LANES)]
    return [Lanes(model, lanes[at : at + most], rows) for at in range(0, LANES, most)]


def engine(case: Case, rows: Table) -> kernels.Plan:
    """How the engine would compute the lanes on this machine."""
    model = MODELS[case.family]
    assert isinstance(model, NetworkModel)
    return kernels.plan(model, [_settings(case)], shape_of(rows), LANES)


def _settings(case: Case) -> Any:
    params = {"batch_size": BATCH, "optimizer": "adam", **case.params}
    return catalog.settings_of(catalog.FAMILIES[case.family], params)


class Recurrent(nn.Module):
    """A recurrent network as PyTorch users write it; its rows end with their length."""

    def __init__(self, settings: Any, dims: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self._dims = dims
        self.body = RNNS[settings.cell](dims[-1], settings.hidden_units, batch_first=True)
        self.head = nn.Linear(settings.hidden_units, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        values = inputs[:, :-1].unflatten(1, self._dims)
        packed = pack_padded_sequence(
            values, inputs[:, -1].long(), batch_first=True, enforce_sorted=False
        )
        last = self.body(packed)[1]
        return self.head((last[0] if isinstance(last, tuple) else last)[-1])


def convolutional(settings: Any, dims: tuple[int, ...], outputs: int) -> nn.Module:
    """A convolutional network as PyTorch users write it."""
    blocks, below = [], dims[0]
    for width in settings.widths:
        blocks += [nn.Conv2d(below, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        blocks += [nn.MaxPool2d(2), nn.Dropout2d(settings.dropout)]
        below = width
    shrunk = 4 ** len(settings.widths)
    head = [nn.Linear(below * (dims[1] * dims[2] // shrunk), settings.head_units), nn.ReLU()]
    last = [nn.Dropout(settings.dropout), nn.Linear(settings.head_units, outputs)]
    return nn.Sequential(nn.Unflatten(1, dims), *blocks, nn.Flatten(), *head, *last)


def plain(case: Case, rows: Table) -> Callable[[int], None]:
    """So many steps of one network in a loop over shuffled rows."""
    settings = _settings(case)
    made = Recurrent if case.family == "rnn" else convolutional
    net = made(settings, rows.dims, rows.outputs)
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.learning_rate)
    inputs, target = (each[: rows.counts[0]] for each in (rows.train_inputs, rows.train_target))

    def run(steps: int) -> None:
        order = torch.randperm(len(inputs))
        for some in torch.split(order, BATCH)[:steps]:
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(inputs[some]), target[some])
            torch.autograd.backward(loss)
            if settings.clip_norm:
                nn.utils.clip_grad_norm_(net.parameters(), settings.clip_norm)
            optimizer.step()

    return run


def compare(case: Case, steps: int, rounds: int) -> None:
    """The lines of a case: seconds of a step of all five lanes."""
    rows = table(case.dataset, LANES, "structured")
    plan = engine(case, rows)
    ours, apart = passes(case, rows, plan.lanes), passes(case, rows, 1)
    loop = plain(case, rows)
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: [each.epoch([steps] * len(each)) for each in ours],
        "apart": lambda: [each.epoch([steps]) for each in apart],
        "plain": lambda: [loop(steps) for _ in range(LANES)],
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(rounds + 1):
        for name, run in ways.items():
            start = time.process_time()
            run()
            if repeat:  # the first round warms up
                found[name].append((time.process_time() - start) / steps)
    step = {name: statistics.median(each) for name, each in found.items()}
    name = f"5 lanes, {case.name}, a step ({plan.kernel})"
    emit(
        "architectures", name, "s", step["ours"],
        peer=step["apart"], peer_name="the same lanes one after another",
        target=f"ratio >= {LEAST}", met=step["apart"] / step["ours"] >= LEAST,
    )  # fmt: skip
    emit(
        "architectures", name, "s", step["ours"],
        peer=step["plain"], peer_name="plain PyTorch loop, one network, five times",
    )  # fmt: skip


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="hpo-bench-") as folder:
        os.environ["HPO_CACHE_DIR"] = folder
        for case in CASES:
            if case.family in MODELS:
                compare(case, steps=8, rounds=5 if quick else 15)


if __name__ == "__main__":
    main()
