"""Recurrent networks as operations: ONNX has the layers, with its gates in an order of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_service.catalog.rnn import RnnHyperparameters
from workers.export.encoding import Encoded
from workers.export.graph import FLOAT, Graph
from workers.models.base import Arrays, Shape

# PyTorch's gates in the order of ONNX: input, output, forget, cell; update, reset, new.
GATES = {"elman": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}
OPERATIONS = {"elman": "RNN", "lstm": "LSTM", "gru": "GRU"}


def rnn_outputs(
    graph: Graph, rows: Encoded, arrays: Arrays, settings: RnnHyperparameters, shape: Shape
) -> str:
    """Logits or scaled numbers, (rows, outputs), or (rows, steps, outputs)."""
    values = rows.values
    if shape.symbols:
        values = graph.add("Gather", graph.constant(arrays["embedding"], "float32"), values)
    values = graph.add("Transpose", values, perm=[1, 0, 2])
    width = settings.hidden_units * (1 + settings.bidirectional)
    for at in range(settings.hidden_layers):
        states, last = _layer(graph, values, rows.lengths, f"layers.{at}", arrays, settings)
        # (steps, directions, rows, units) to (steps, rows, directions * units).
        side_by_side = graph.add("Transpose", states, perm=[0, 2, 1, 3])
        values = graph.reshape(side_by_side, 0, 0, width)
    if shape.per_step:
        found = graph.add("Transpose", values, perm=[1, 0, 2])
    else:
        found = _readout(graph, values, last, rows.lengths, settings, shape.dims[0])
    return graph.dense(found, arrays["head.weight"], arrays["head.bias"])


def _layer(
    graph: Graph, values: str, lengths: str, name: str, arrays: Arrays, settings: RnnHyperparameters
) -> list[str]:
    """The states (steps, directions, rows, units), each row up to its own end, and the last."""
    cell, own = settings.cell, {"hidden_size": settings.hidden_units}
    bias = arrays[f"{name}.bias"]
    biases = [bias, arrays.get(f"{name}.bias_hh", np.zeros_like(bias))]
    inputs, states = (arrays[f"{name}.weight_{kind}"] for kind in ("ih", "hh"))
    weights = [
        _in_order(inputs, cell),
        _in_order(states, cell),
        np.concatenate([_in_order(each, cell) for each in biases], axis=1),
    ]
    more: dict[str, Any] = {"direction": "bidirectional"} if settings.bidirectional else {}
    if cell == "gru":
        more["linear_before_reset"] = 1  # as PyTorch has it
    if cell == "elman":
        more["activations"] = [settings.activation.capitalize()] * len(inputs)
    names = (graph.constant(each, "float32") for each in weights)
    return graph.all_of(OPERATIONS[cell], 2, values, *names, lengths, **own, **more)


def _in_order(array: NDArray[Any], cell: str) -> NDArray[Any]:
    """(directions, gates * units, ...) with the gates as ONNX wants them."""
    gates = np.split(array, len(GATES[cell]), axis=1)
    return np.concatenate([gates[at] for at in GATES[cell]], axis=1)


def _readout(
    graph: Graph,
    values: str,
    last: str,
    lengths: str,
    settings: RnnHyperparameters,
    steps: int,
) -> str:
    """(rows, units of all directions), of `values` (steps, rows, units)."""
    if settings.readout == "last":
        by_row = graph.add("Transpose", last, perm=[1, 0, 2])
        return graph.add("Flatten", by_row, axis=1)
    at = graph.constant(np.arange(steps).reshape(-1, 1), "int32")
    real = graph.add("Unsqueeze", graph.add("Less", at, lengths), graph.constant([2], "int64"))
    over = graph.constant([0], "int64")
    if settings.readout == "max":
        least = graph.constant(-np.inf, "float32")
        return graph.add("ReduceMax", graph.add("Where", real, values, least), over, keepdims=0)
    zero = graph.constant(0.0, "float32")
    total = graph.add("ReduceSum", graph.add("Where", real, values, zero), over, keepdims=0)
    return graph.add("Div", total, graph.cast(graph.reshape(lengths, -1, 1), FLOAT))
