"""Preprocessing as operations: from rows as they are stored to what a network reads.

`numeric` is float64, NaN where missing, and is scaled in float64: a year or a population would
lose its last digits in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpo_service import protocol
from workers.data.layouts import (
    PADDING,
    SPECIAL,
    UNKNOWN,
    Channels,
    Columns,
    Counts,
    Encoder,
    Symbols,
)
from workers.export.graph import DOUBLE, FLOAT, INT32, INT64, Graph


@dataclass(frozen=True)
class Encoded:
    """`values` float32 (rows, columns), images (rows, channels, height, width), sequences (rows,
    steps, channels), or int64 codes (rows, steps); `lengths` int32 (rows,) of sequences and texts.
    """

    values: str
    lengths: str = ""


def encode(graph: Graph, encoder: Encoder, schema: protocol.DatasetSchema) -> Encoded:
    """Declare the inputs that the rows need, and encode them."""
    match encoder:
        case Columns():
            return Encoded(_columns(graph, encoder, schema))
        case Counts():
            return Encoded(_counts(graph, encoder, schema))
        case Channels() if schema.kind == "image":
            return Encoded(_image(graph, encoder, schema))
        case Channels():
            return _sequence(graph, encoder, schema)
        case Symbols():
            return _symbols(graph, encoder, schema)
    raise AssertionError(f"no such encoder: {encoder}")


def _numeric(graph: Graph, schema: protocol.DatasetSchema) -> str:
    count = sum(column.kind == "numeric" for column in schema.columns)
    return graph.input("numeric", DOUBLE, count)


def _columns(graph: Graph, encoder: Columns, schema: protocol.DatasetSchema) -> str:
    parts = []
    if len(encoder.means):
        numeric = _numeric(graph, schema)
        medians = graph.constant(encoder.medians)
        known = graph.add("Where", graph.add("IsNaN", numeric), medians, numeric)
        centred = graph.add("Sub", known, graph.constant(encoder.means))
        scaled = graph.add("Div", centred, graph.constant(encoder.scales))
        parts.append(graph.cast(scaled, FLOAT))
    if encoder.seen:
        codes = graph.input("categorical", INT64, len(encoder.seen))
        for at, seen in enumerate(encoder.seen):
            column = graph.add("Gather", codes, graph.constant([at], "int64"), axis=1)
            equal = graph.add("Equal", column, graph.constant(np.arange(len(seen))))
            mask = graph.constant(seen, "float32")
            parts.append(graph.add("Mul", graph.cast(equal, FLOAT), mask))
    return graph.add("Concat", *parts, axis=1)


def _counts(graph: Graph, encoder: Counts, schema: protocol.DatasetSchema) -> str:
    codes = graph.input("categorical", INT64, (schema.shape or [0])[0])
    each = graph.add("Unsqueeze", codes, graph.constant([2], "int64"))
    equal = graph.add("Equal", each, graph.constant(np.arange(len(encoder.seen))))
    steps = graph.constant([1], "int64")
    counts = graph.add("ReduceSum", graph.cast(equal, DOUBLE), steps, keepdims=0)
    centred = graph.add("Sub", counts, graph.constant(encoder.means))
    scaled = graph.add("Div", centred, graph.constant(encoder.scales))
    return graph.cast(graph.add("Mul", scaled, graph.constant(encoder.seen, "float64")), FLOAT)


def _image(graph: Graph, encoder: Channels, schema: protocol.DatasetSchema) -> str:
    places = graph.reshape(_numeric(graph, schema), 0, *(schema.shape or []))
    return _scaled(graph, places, encoder, (-1, 1, 1))


def _sequence(graph: Graph, encoder: Channels, schema: protocol.DatasetSchema) -> Encoded:
    places = graph.reshape(_numeric(graph, schema), 0, *(schema.shape or []))
    known = graph.cast(graph.add("Not", graph.add("IsNaN", places)), INT64)
    real = graph.add("ReduceMax", known, graph.constant([2], "int64"), keepdims=0)
    steps = graph.constant(np.arange(1, (schema.shape or [0])[0] + 1))
    ends = graph.add("Mul", real, steps)
    last = graph.add("ReduceMax", ends, graph.constant([1], "int64"), keepdims=0)
    return Encoded(_scaled(graph, places, encoder, (-1,)), _at_least_one(graph, last))


def _scaled(graph: Graph, places: str, encoder: Channels, along: tuple[int, ...]) -> str:
    """What is missing becomes 0."""
    centred = graph.add("Sub", places, graph.constant(encoder.means.reshape(along)))
    scaled = graph.add("Div", centred, graph.constant(encoder.scales.reshape(along)))
    zero = graph.constant(0.0, "float64")
    return graph.cast(graph.add("Where", graph.add("IsNaN", scaled), zero, scaled), FLOAT)


def _symbols(graph: Graph, encoder: Symbols, schema: protocol.DatasetSchema) -> Encoded:
    codes = graph.input("categorical", INT64, (schema.shape or [0])[0])
    known = np.where(encoder.seen, np.arange(len(encoder.seen)) + SPECIAL, UNKNOWN)
    # The last entry serves code -1.
    coded = graph.add("Gather", graph.constant(np.append(known, PADDING), "int64"), codes)
    real = graph.cast(graph.add("Greater", coded, graph.constant(PADDING, "int64")), INT64)
    length = graph.add("ReduceSum", real, graph.constant([1], "int64"), keepdims=0)
    return Encoded(coded, _at_least_one(graph, length))


def _at_least_one(graph: Graph, lengths: str) -> str:
    return graph.cast(graph.add("Max", lengths, graph.constant(1, "int64")), INT32)
