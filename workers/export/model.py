"""A stored model as ONNX, preprocessing included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpo_service import errors, protocol
from workers.export import encoding, networks, recurrent
from workers.export.encoding import Encoded
from workers.export.graph import DOUBLE, Graph
from workers.models import Loaded
from workers.models.base import Arrays, Shape
from workers.models.loading import Member, Networks

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
    card, first = loaded.card, loaded.members[0].fitted
    if card.family not in EXPORTED or not isinstance(first, Networks):
        raise errors.BadRequest(f"{card.family} has no ONNX form: {', '.join(EXPORTED)} have.")
    graph = Graph()
    said = [_weighted(graph, member, card) for member in loaded.members]
    shape = [*(first.shape.dims[:1] if first.shape.per_step else []), first.shape.outputs]
    return graph.model(graph.add("Sum", *said), shape, card.metadata())


def _weighted(graph: Graph, member: Member, card: protocol.ModelCard) -> str:
    """What a member adds to the prediction."""
    fitted, outputs = member.fitted, EXPORTED[card.family]
    assert isinstance(fitted, Networks)
    rows = encoding.encode(graph, member.preprocessing.encoder, card.contents)
    said = [
        _said(graph, outputs(graph, rows, each.arrays(0), member.settings, fitted.shape), fitted)
        for each in fitted.members
    ]
    share = graph.constant(member.weight / len(said), "float64")
    return graph.add("Mul", graph.add("Sum", *said), share)


def _said(graph: Graph, found: str, fitted: Networks) -> str:
    """See `models.outputs.said`."""
    exact = graph.cast(found, DOUBLE)
    if fitted.shape.task == "classification":
        return graph.add("Softmax", exact, axis=-1)
    scaled = graph.add("Mul", exact, graph.constant(fitted.target_scale))
    return graph.add("Add", scaled, graph.constant(fitted.target_mean))
