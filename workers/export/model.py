"""A stored model as ONNX, preprocessing included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpo_service import catalog, errors
from workers.export import encoding, networks, recurrent
from workers.export.encoding import Encoded
from workers.export.graph import DOUBLE, Graph
from workers.models import Loaded
from workers.models.base import Arrays, Shape
from workers.models.loading import Networks

EXPORTED: dict[str, Callable[[Graph, Encoded, Arrays, Any, Shape], str]] = {
    "mlp": networks.mlp_outputs,
    "perceptron": networks.perceptron_outputs,
    "cnn": networks.cnn_outputs,
    "rnn": recurrent.rnn_outputs,
}


def export(loaded: Loaded) -> bytes:
    """The model as an ONNX file that reads rows as `DatasetSchema` says that they are stored.

    Inputs, where the data have such columns: `numeric` float64 (rows, columns), NaN where missing,
    and `categorical` int64 codes (rows, columns or steps), -1 where missing. Output: `prediction`
    float64, what `Loaded.predict` gives. The metadata hold the model's card as JSON under `model`,
    with the names of columns, categories and classes. Raises `BadRequest` for another family.
    """
    card, fitted = loaded.card, loaded.fitted
    if card.family not in EXPORTED or not isinstance(fitted, Networks):
        raise errors.BadRequest(f"{card.family} has no ONNX form: {', '.join(EXPORTED)} have.")
    graph, settings = Graph(), catalog.settings_of(catalog.FAMILIES[card.family], card.params)
    rows = encoding.encode(graph, loaded.preprocessing.encoder, card.contents)
    outputs = EXPORTED[card.family]
    said = [
        _said(graph, outputs(graph, rows, each.arrays(0), settings, fitted.shape), fitted)
        for each in fitted.members
    ]
    mean = graph.add("Mul", graph.add("Sum", *said), graph.constant(1 / len(said), "float64"))
    shape = [*(fitted.shape.dims[:1] if fitted.shape.per_step else []), fitted.shape.outputs]
    return graph.model(mean, shape, card.metadata())


def _said(graph: Graph, found: str, fitted: Networks) -> str:
    """See `models.outputs.said`."""
    exact = graph.cast(found, DOUBLE)
    if fitted.shape.task == "classification":
        return graph.add("Softmax", exact, axis=-1)
    scaled = graph.add("Mul", exact, graph.constant(fitted.target_scale))
    return graph.add("Add", scaled, graph.constant(fitted.target_mean))
