"""Text written by a network that tells the next symbol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import softmax

from hpo_service.catalog.rnn import RnnHyperparameters
from workers.data.layouts import SPECIAL
from workers.models.base import Arrays, Shape
from workers.models.rnn import Rnn


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
