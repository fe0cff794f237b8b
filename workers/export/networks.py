"""Perceptrons and convolutional networks as operations, from the arrays that a model stores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo_service.catalog.cnn import CnnHyperparameters
from hpo_service.catalog.mlp import MlpHyperparameters
from hpo_service.catalog.perceptron import PerceptronHyperparameters
from workers.export.encoding import Encoded
from workers.export.graph import FLOAT, INT64, Graph
from workers.models import channel_norms, cnn, mlp, normalizations, perceptron
from workers.models.base import Arrays, Shape


def mlp_outputs(
    graph: Graph, rows: Encoded, arrays: Arrays, settings: MlpHyperparameters, shape: Shape
) -> str:
    """Logits or scaled numbers, (rows, outputs)."""
    return _perceptron(graph, rows.values, arrays, mlp.asked(settings), shape)


def perceptron_outputs(
    graph: Graph, rows: Encoded, arrays: Arrays, settings: PerceptronHyperparameters, shape: Shape
) -> str:
    """Weighted sums, (rows, classes)."""
    return _perceptron(graph, rows.values, arrays, perceptron.asked(settings), shape)


def _perceptron(graph: Graph, values: str, arrays: Arrays, asked: mlp.Asked, shape: Shape) -> str:
    if asked.embedding and shape.blocks:
        values = graph.dense(values, _embedding(arrays, shape).T, None)
    design = asked.design
    for at in range(design.depth):
        values = graph.dense(values, arrays[f"layers.{at}.weight"], arrays.get(f"layers.{at}.bias"))
        values = _normalized(graph, values, _below(f"layers.{at}", arrays), design.normalization)
        slope = arrays.get(f"layers.{at}.slope", design.leaky_slope)
        values = graph.activate(design.activation, values, slope)
    last = f"layers.{design.depth}"
    return graph.dense(values, arrays[f"{last}.weight"], arrays.get(f"{last}.bias"))


def _embedding(arrays: Arrays, shape: Shape) -> NDArray[Any]:
    """All embeddings as one matrix, (inputs, what the first layer reads)."""
    pieces, done = [], 0
    for at, (start, stop) in enumerate([*shape.blocks, (shape.inputs, shape.inputs)]):
        pieces += [np.eye(start - done)] if start > done else []
        pieces += [arrays[f"embeddings.{at}.weight"]] if stop > start else []
        done = stop
    columns = np.cumsum([0, *(piece.shape[1] for piece in pieces)])
    found, row = np.zeros((shape.inputs, columns[-1])), 0
    for piece, column in zip(pieces, columns[:-1].tolist(), strict=True):
        found[row : row + len(piece), column : column + piece.shape[1]] = piece
        row += len(piece)
    return found


def _normalized(graph: Graph, values: str, own: Arrays, how: str) -> str:
    if how == "none":
        return values
    scale, shift = own["scale"], own["shift"]
    if how == "batch":
        return _by_statistics(graph, values, own, scale, shift, normalizations.EPSILON)
    names = (graph.constant(each, "float32") for each in (scale, shift))
    epsilon = normalizations.EPSILON
    return graph.add("LayerNormalization", values, *names, axis=-1, epsilon=epsilon)


def _by_statistics(
    graph: Graph,
    values: str,
    own: Arrays,
    gain: NDArray[Any],
    bias: NDArray[Any],
    epsilon: float,
    along: tuple[int, ...] = (-1,),
) -> str:
    """Batch normalization by running statistics: a factor and a number to add."""
    factor = gain / np.sqrt(own["variance"].astype(np.float64) + epsilon)
    constant = bias - own["mean"] * factor
    factors = graph.constant(factor.reshape(along), "float32")
    return graph.add(
        "Add",
        graph.add("Mul", values, factors),
        graph.constant(constant.reshape(along), "float32"),
    )


def cnn_outputs(
    graph: Graph, rows: Encoded, arrays: Arrays, settings: CnnHyperparameters, shape: Shape
) -> str:
    """Logits or scaled numbers, (rows, outputs)."""
    values, lengths = rows.values, rows.lengths
    made = cnn.blocks(settings, shape)
    if lengths:
        # A signal is an image of height 1.
        values = graph.add("Transpose", values, perm=[0, 2, 1])
        values = graph.add("Unsqueeze", values, graph.constant([2], "int64"))
        lengths = graph.cast(lengths, INT64)
    for at, block in enumerate(made):
        own = _below(f"blocks.{at}", arrays)
        values, lengths = _block(graph, values, lengths, own, block, settings)
    values = _head(graph, values, lengths, made[-1], arrays, settings)
    return graph.dense(values, arrays["output.weight"], arrays["output.bias"])


def _block(
    graph: Graph,
    values: str,
    lengths: str,
    own: Arrays,
    block: cnn.Block,
    settings: CnnHyperparameters,
) -> tuple[str, str]:
    padding = [each // 2 for each in block.kernel] * 2
    weights = [graph.constant(own["weight"], "float32")]
    if settings.normalization == "none":
        weights.append(graph.constant(own["bias"], "float32"))
    values = graph.add("Conv", values, *weights, strides=list(block.stride), pads=padding)
    lengths = _shorter(graph, lengths, block.stride[1])
    real = _real(graph, lengths, block.convolved[1])
    values = _normalized_channels(graph, values, real, own, settings.normalization)
    values = graph.activate(settings.activation, values, own.get("slope", settings.leaky_slope))
    if real:
        values = graph.add("Mul", values, real)
    if block.pooled != (1, 1):
        pool = "MaxPool" if settings.pooling == "max" else "AveragePool"
        sides = list(block.pooled)
        values = graph.add(pool, values, kernel_shape=sides, strides=sides)
        lengths = _shorter(graph, lengths, block.pooled[1])
    return values, lengths


def _normalized_channels(graph: Graph, values: str, real: str, own: Arrays, how: str) -> str:
    if how == "none":
        return values
    along, epsilon = (-1, 1, 1), channel_norms.EPSILON
    if how == "batch":
        return _by_statistics(graph, values, own, own["gain"], own["bias"], epsilon, along)
    one = graph.constant(1.0, "float32")
    # Of a signal only the places before its end count.
    counted = graph.add("Mul", graph.add("Expand", one, graph.add("Shape", values)), real or one)
    count = _sum(graph, counted)
    mean = graph.add("Div", _sum(graph, graph.add("Mul", values, counted)), count)
    centred = graph.add("Sub", values, mean)
    squares = graph.add("Mul", graph.add("Mul", centred, centred), counted)
    variance = graph.add("Div", _sum(graph, squares), count)
    spread = graph.add("Sqrt", graph.add("Add", variance, graph.constant(epsilon, "float32")))
    gain, bias = (graph.constant(own[n].reshape(along), "float32") for n in ("gain", "bias"))
    return graph.add("Add", graph.add("Mul", graph.add("Div", centred, spread), gain), bias)


def _head(
    graph: Graph,
    values: str,
    lengths: str,
    last: cnn.Block,
    arrays: Arrays,
    settings: CnnHyperparameters,
) -> str:
    if settings.head == "dense":
        hidden = graph.add("Flatten", values, axis=1)
        hidden = graph.dense(hidden, arrays["head.weight"], arrays["head.bias"])
        slope = arrays.get("head.slope", settings.leaky_slope)
        return graph.activate(settings.activation, hidden, slope)
    places = graph.constant([2, 3], "int64")
    if not lengths:
        return graph.add("ReduceMean", values, places, keepdims=0)
    most = graph.add("Min", lengths, graph.constant(last.left[1], "int64"))
    column = graph.cast(graph.reshape(most, -1, 1), FLOAT)
    return graph.add("Div", graph.add("ReduceSum", values, places, keepdims=0), column)


def _sum(graph: Graph, values: str) -> str:
    """Over all channels and places of a row."""
    return graph.add("ReduceSum", values, graph.constant([1, 2, 3], "int64"), keepdims=1)


def _shorter(graph: Graph, lengths: str, by: int) -> str:
    """A place is real where it begins before the end."""
    if not lengths or by == 1:
        return lengths
    more = graph.add("Add", lengths, graph.constant(by - 1, "int64"))
    return graph.add("Div", more, graph.constant(by, "int64"))


def _real(graph: Graph, lengths: str, width: int) -> str:
    """1 for places before the end, (rows, 1, 1, width)."""
    if not lengths:
        return ""
    each = graph.reshape(lengths, -1, 1, 1, 1)
    return graph.cast(graph.add("Less", graph.constant(np.arange(width)), each), FLOAT)


def _below(prefix: str, arrays: Arrays) -> Arrays:
    start = f"{prefix}."
    return {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}
