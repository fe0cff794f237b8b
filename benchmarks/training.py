"""The training engine beside other ways to train the same networks, on one thread.

Two cases, both on scikit-learn's digits, all ways measured in turn in one run, in processor time
(on one thread that is the wall clock's on a machine with nothing else to do):

- `5-fold`: cross-validation of an MLP 64-128-128-10, batch 32, SGD with momentum, dropout 0.1,
  every training row used, scored after every epoch; medians of the seconds a cross-validation
  takes. scikit-learn's MLP has no dropout and is scored after its last epoch only.
- `20 lanes`: one step of twenty MLPs 64-32-32-10 in one pass, beside a plain PyTorch loop
  over one network, and beside the batched matrix products that no engine can do without.

usage: python -m benchmarks.training [--quick]
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.lines import emit
from benchmarks.rows import table
from hpo_service import catalog
from workers import metrics
from workers.data.parts import Table
from workers.models import MODELS, NetworkModel
from workers.training import seeding
from workers.training.lanes import Lane, Lanes

FOLDS, BATCH, RATE, MOMENTUM, DROPOUT = 5, 32, 0.05, 0.9, 0.1
WIDE, NARROW = 128, 32

# Inputs and classes of the training rows, then of the validation rows.
Fold = tuple[Tensor, Tensor, Tensor, Tensor]


def ours(epochs: int) -> float:
    """All folds as lanes of one pass; mean accuracy after the last epoch."""
    rows = table("digits", FOLDS)
    lanes = lanes_of(rows, FOLDS, hidden_units=WIDE, dropout=DROPOUT)
    for _ in range(epochs):
        lanes.epoch()
        found = metrics.measure(["accuracy"], lanes.predict(), rows.valid_target, rows.valid_mask)
    return float(found["accuracy"].mean())


def hand_written(epochs: int) -> float:
    """Fold after fold, tensors in memory, shuffled by index."""

    def batches(inputs: Tensor, target: Tensor) -> Any:
        order = torch.randperm(len(inputs))
        return ((inputs[rows], target[rows]) for rows in torch.split(order, BATCH))

    return statistics.mean(_loop(fold, epochs, batches) for fold in folds())


def data_loader(epochs: int) -> float:
    """Fold after fold, each batch from a `DataLoader`."""

    def batches(inputs: Tensor, target: Tensor) -> Any:
        return DataLoader(TensorDataset(inputs, target), batch_size=BATCH, shuffle=True)

    return statistics.mean(_loop(fold, epochs, batches) for fold in folds())


def skorch(epochs: int) -> float:
    """Fold after fold, a skorch classifier that scores its validation rows after each epoch."""
    peer, callbacks, helper = (
        importlib.import_module(name) for name in ("skorch", "skorch.callbacks", "skorch.helper")
    )

    scores = []
    for inputs, target, valid_inputs, valid_target in folds():
        net = peer.NeuralNetClassifier(
            network(WIDE, DROPOUT),
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.SGD,
            optimizer__momentum=MOMENTUM,
            lr=RATE,
            batch_size=BATCH,
            iterator_train__shuffle=True,
            max_epochs=epochs,
            train_split=helper.predefined_split(TensorDataset(valid_inputs, valid_target)),
            callbacks=[callbacks.EpochScoring("accuracy", lower_is_better=False)],
            verbose=0,
        )
        net.fit(inputs, target)
        scores.append(float(net.score(valid_inputs, valid_target)))
    return statistics.mean(scores)


def scikit_learn(epochs: int) -> float:
    """Fold after fold, scikit-learn's MLP, without dropout."""
    scores = []
    for fold in folds():
        inputs, target, valid_inputs, valid_target = (part.numpy() for part in fold)
        model = MLPClassifier(
            (WIDE, WIDE),
            solver="sgd",
            batch_size=BATCH,
            learning_rate_init=RATE,
            momentum=MOMENTUM,
            max_iter=epochs,
            n_iter_no_change=epochs + 1,
        )
        scores.append(float(model.fit(inputs, target).score(valid_inputs, valid_target)))
    return statistics.mean(scores)


PEERS: list[tuple[str, Callable[[int], float], float]] = [
    ("skorch", skorch, 5.0),
    ("DataLoader loop", data_loader, 4.0),
    ("hand-written tensor loop", hand_written, 3.0),
    ("scikit-learn MLPClassifier", scikit_learn, 1.8),
]


def folds() -> list[Fold]:
    """The same folds for the peers."""
    found = load_digits()
    pairs = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(found.data, found.target)
    made = []
    for train, valid in pairs:
        scaler = StandardScaler().fit(found.data[train])
        inputs = (scaler.transform(found.data[rows]).astype(np.float32) for rows in (train, valid))
        train_inputs, valid_inputs = map(torch.from_numpy, inputs)
        target = torch.from_numpy(found.target)
        made.append((train_inputs, target[train], valid_inputs, target[valid]))
    return made


def lanes_of(rows: Table, count: int, **params: Any) -> Lanes:
    """`count` lanes over the folds in turn."""
    model, family = MODELS["mlp"], catalog.FAMILIES["mlp"]
    assert isinstance(model, NetworkModel)
    params |= {"optimizer": "sgd", "learning_rate": RATE, "momentum": MOMENTUM, "batch_size": BATCH}
    settings = catalog.settings_of(family, params)
    made = [Lane(settings, at % FOLDS, seeding.generator(0, 0, at)) for at in range(count)]
    return Lanes(model, made, rows)


def network(width: int, dropout: float = 0.0) -> nn.Sequential:
    """One network as PyTorch users write it."""
    drops = [[nn.Dropout(dropout)] if dropout else [] for _ in range(2)]
    return nn.Sequential(
        *[nn.Linear(64, width), nn.ReLU(), *drops[0]],
        *[nn.Linear(width, width), nn.ReLU(), *drops[1]],
        nn.Linear(width, 10),
    )


def _loop(fold: Fold, epochs: int, batches: Callable[[Tensor, Tensor], Any]) -> float:
    inputs, target, valid_inputs, valid_target = fold
    net = network(WIDE, DROPOUT)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    accuracy = 0.0
    for _ in range(epochs):
        net.train()
        for some, wanted in batches(inputs, target):
            _plain_step(net, optimizer, some, wanted)
        net.eval()
        with torch.no_grad():
            accuracy = float((net(valid_inputs).argmax(1) == valid_target).float().mean())
    return accuracy


def _plain_step(
    net: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, target: Tensor
) -> None:
    optimizer.zero_grad()
    loss = functional.cross_entropy(net(inputs), target)
    torch.autograd.backward(loss)
    optimizer.step()


def cross_validation(epochs: int, repeats: int) -> None:
    """Seconds of a whole cross-validation, every way in turn, as often as asked."""
    ways: dict[str, Callable[[int], float]] = {"ours": ours}
    ways |= {name: run for name, run, _ in PEERS if _can_run(name)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, run in ways.items():
            start = time.process_time()
            accuracy = run(epochs)
            took = time.process_time() - start
            if repeat:  # the first round warms up
                seconds[name].append(took)
            elif accuracy < 0.9:
                raise RuntimeError(f"{name} did not learn: accuracy {accuracy:.3f}")
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    for name, _, target in PEERS:
        if name in medians:
            emit(
                "training",
                f"5-fold, MLP 64-128-128-10, {epochs} epochs",
                "s",
                medians["ours"],
                peer=medians[name],
                peer_name=name,
                target=f"ratio >= {target}",
                met=medians[name] / medians["ours"] >= target,
            )


def twenty_lanes(repeats: int) -> None:
    """Seconds of a step of twenty small networks: ours, a plain loop's, the products' alone."""
    rows, lanes = table("digits", FOLDS), 20
    made = lanes_of(rows, lanes, hidden_units=NARROW)
    steps = -(-max(rows.counts) // BATCH)
    net = network(NARROW)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    inputs, target = torch.randn(BATCH, 64), torch.randint(0, 10, (BATCH,))

    def plain() -> None:
        for _ in range(steps):
            _plain_step(net, optimizer, inputs, target)

    ways: dict[str, Callable[[], object]] = {
        "ours": made.epoch,
        "plain": plain,
        "floor": _products(lanes, steps),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(5 * repeats + 1):
        for name, run in ways.items():
            start = time.process_time()
            run()
            if repeat:
                found[name].append((time.process_time() - start) / steps)
    step = {name: statistics.median(each) for name, each in found.items()}
    case = "20 lanes, MLP 64-32-32-10"
    per_lane, loop, floor = step["ours"] / lanes, step["plain"], step["floor"]
    emit(
        "training", f"{case}, a lane's step", "s", per_lane,
        peer=loop, peer_name="plain PyTorch loop, one network",
        target="ratio >= 8", met=loop / per_lane >= 8,
    )  # fmt: skip
    emit(
        "training", f"{case}, a step", "s", step["ours"],
        peer=floor, peer_name="its batched matrix products alone",
        target="ratio >= 0.333", met=step["ours"] <= 3 * floor,
    )  # fmt: skip


def _products(lanes: int, steps: int) -> Callable[[], None]:
    """The matrix products of a step: forward, weights' gradients, inputs' gradients."""
    widths = [64, NARROW, NARROW, 10]
    layers = []
    for at, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        below, weight = torch.randn(lanes, BATCH, fan_in), torch.randn(lanes, fan_in, fan_out)
        above, found = torch.randn(lanes, BATCH, fan_out), torch.empty(lanes, fan_in, fan_out)
        layers.append((at, below, weight, above, found, torch.empty_like(below)))

    def run() -> None:
        for _ in range(steps):
            for at, below, weight, above, found, back in layers:
                torch.bmm(below, weight, out=above)
                torch.bmm(below.transpose(1, 2), above, out=found)
                if at:
                    torch.bmm(above, weight.transpose(1, 2), out=back)

    return run


def _can_run(name: str) -> bool:
    if name != "skorch" or importlib.util.find_spec("skorch"):
        return True
    sys.stderr.write("skorch is not installed (extra `bench`): its line is left out\n")
    return False


def main() -> None:
    """Run both cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer epochs and repeats")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of peers that were told to stop early
    cross_validation(epochs=5 if quick else 20, repeats=3 if quick else 5)
    twenty_lanes(repeats=3 if quick else 10)


if __name__ == "__main__":
    main()
