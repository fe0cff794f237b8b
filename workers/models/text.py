"""Text written by a network that tells the next symbol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import softmax

from hpo_service import protocol
from hpo_service.catalog.rnn import RnnHyperparameters
from workers.data.dataset import Codes
from workers.data.layouts import SPECIAL
from workers.models.base import Arrays, Shape
from workers.models.rnn import Rnn

PROMPT, WRITTEN = 16, 400  # symbols of a sample


def continues(family: str, schema: protocol.DatasetSchema) -> bool:
    """Whether a network of the family tells the next symbol of this data."""
    return family == "rnn" and schema.per_step and schema.classes == schema.symbols


def sample(
    arrays: Arrays,
    settings: Any,
    schema: protocol.DatasetSchema,
    row: Codes,
    rng: np.random.Generator,
) -> str:
    """The beginning of a row of the data, and how a network goes on with it.

    Of an ensemble the first network writes.
    """
    first = "networks.0."
    own = {n.removeprefix(first): a for n, a in arrays.items() if n.startswith(first)} or arrays
    prompt = row[row >= 0][:PROMPT].tolist()
    steps = (schema.shape or [PROMPT])[0]
    found = continuation(own, settings, schema.symbols, prompt, WRITTEN, rng, context=steps)
    between = "" if all(len(symbol) == 1 for symbol in schema.symbols) else " "
    return between.join([*(schema.symbols[code] for code in prompt), *found])


def continuation(
    arrays: Arrays,
    settings: RnnHyperparameters,
    symbols: Sequence[str],
    prompt: Sequence[int],
    length: int,
    rng: np.random.Generator,
    context: int = 64,
) -> list[str]:
    """`length` symbols after a prompt, each drawn from what the network with these weights tells.

    `symbols` are the data set's; `prompt` codes into them, -1 for any other symbol, and may be
    empty. The network sees the last `context` symbols: best as many as it was trained on.
    """
    shape = Shape(
        "classification",
        inputs=context,
        outputs=len(symbols),
        dtype=torch.float32,
        device=torch.device("cpu"),
        dims=(context,),
        symbols=len(symbols) + SPECIAL,
        per_step=True,
    )
    network = Rnn([settings], [rng], shape)
    network.pack(arrays, network.parameters, 0)
    written = list(prompt)
    for _ in range(length):
        written.append(_next(network, written[-context:], rng))
    return [symbols[code] for code in written[len(prompt) :]]


def _next(network: Rnn, seen: Sequence[int], rng: np.random.Generator) -> int:
    inputs = torch.zeros(1, 1, network.shape.inputs)
    inputs[0, 0, : len(seen)] = torch.tensor(seen) + SPECIAL
    told = network.predict(inputs).view(network.shape.inputs, -1)
    chances = softmax(told[max(len(seen), 1) - 1].double().numpy())
    return int(rng.choice(len(chances), p=chances))
