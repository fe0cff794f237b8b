"""Recurrent networks learn what they must remember, and write texts they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hpo_service import catalog, protocol
from tests import training
from workers import objective
from workers.data.dataset import Dataset
from workers.models.base import Shape
from workers.models.cells import CELLS
from workers.models.rnn import Rnn
from workers.models.text import continuation
from workers.training import seeding
from workers.training.optimizers import optimizer
from workers.work import Work

CPU = torch.device("cpu")
SYMBOLS = ["a", "b", "c"]
TEXT = [0, 0, 1, 0, 2] * 8


def lanes(shape: Shape, **params: Any) -> Rnn:
    """Two networks from other first weights."""
    settings = catalog.settings_of(catalog.FAMILIES["rnn"], params)
    rngs = [seeding.generator(seed, 0, 0) for seed in range(2)]
    return Rnn([settings] * 2, rngs, shape)  # type: ignore[list-item]


def train(made: Rnn, inputs: torch.Tensor, target: torch.Tensor, steps: int) -> torch.Tensor:
    """Losses after steps of Adam, gradients no longer than 1."""
    rule = optimizer(made.settings, made.parameters)
    for _ in range(steps):
        losses = made.learn(0, inputs, target, 1 / inputs.shape[1])
        made.gradient /= made.gradient.norm(dim=1, keepdim=True).clamp(min=1)
        rule.step(made.parameters, made.gradient)
    return losses.mean(1)


@pytest.mark.parametrize("cell", CELLS)
def test_the_first_symbol_is_remembered_to_the_end(cell: str) -> None:
    steps = 16
    shape = Shape("classification", steps, 3, torch.float32, CPU, dims=(steps,), symbols=5)
    inputs = torch.randint(2, 5, (2, 64, steps), generator=torch.Generator().manual_seed(0))
    made = lanes(shape, cell=cell, hidden_units=24, learning_rate=0.01)
    losses = train(made, inputs.float(), inputs[..., 0] - 2, 300)
    assert (losses < 0.1).all()


@pytest.mark.parametrize("cell", CELLS)
def test_a_repeating_text_is_learned_and_continued(cell: str) -> None:
    steps = 12
    shape = Shape(
        "classification", steps, 3, torch.float32, CPU, dims=(steps,), symbols=5, per_step=True
    )
    pieces = torch.tensor([TEXT[start : start + steps + 1] for start in range(10)])
    made = lanes(shape, cell=cell, hidden_units=16, learning_rate=0.02)
    inputs = (pieces[:, :-1] + 2).float().expand(2, -1, -1)
    losses = train(made, inputs, pieces[:, 1:].expand(2, -1, -1), 150)
    assert losses.exp().max() < 1.3  # perplexity; the first symbols of a piece are open
    found = continuation(
        made.arrays(0), made.built, SYMBOLS, TEXT[:10], 20, np.random.default_rng(0), steps
    )
    assert found == [SYMBOLS[code] for code in TEXT[10:30]]
    free = continuation(made.arrays(0), made.built, SYMBOLS, [], 5, np.random.default_rng(0))
    again = continuation(made.arrays(0), made.built, SYMBOLS, [], 5, np.random.default_rng(0))
    assert free == again
    assert len(free) == 5


def next_symbols(path: Path, steps: int = 12) -> Path:
    """Pieces of the text, every symbol to be told from those before it."""
    pieces = np.array([TEXT[start : start + steps + 1] for start in range(20)])
    schema = protocol.DatasetSchema(
        task="classification",
        rows=len(pieces),
        columns=[],
        target=["next"],
        classes=SYMBOLS,
        shape=[steps],
        symbols=SYMBOLS,
        per_step=True,
    )
    return training.blob(
        Dataset(schema, np.empty((len(pieces), 0)), pieces[:, :-1], pieces[:, 1:]), path
    )


def test_a_trial_tells_the_next_symbol_without_looking_ahead(tmp_path: Path) -> None:
    data, channel = next_symbols(tmp_path / "data"), training.Channel()
    params = {"epochs": 30, "batch_size": 4, "hidden_units": 16}
    told = training.lease("rnn", params, folds=2, metrics=["log_loss"])
    ahead = training.lease("rnn", params | {"bidirectional": True}, folds=2)
    objective.run(Work([told, ahead], data, None, "cpu", 1), channel)
    good, refused = channel.tells[told.lease_id], channel.tells[ahead.lease_id]
    assert good.values is not None
    assert good.values[0] < 0.3
    assert refused.error is not None
    assert refused.error.reason == "bad_params"
    assert refused.error.message.startswith("params.bidirectional")
