"""An ONNX graph while it is being built: each operation gives the name of its result."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 20, 10  # of 2023, which every runtime of today reads
FLOAT, DOUBLE, INT32, INT64 = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT32,
    TensorProto.INT64,
)


class Graph:
    """Nodes and constants; values are the names that operations give."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._names = 0

    def input(self, name: str, kind: int, width: int) -> str:
        """An input (rows, width), which may be asked for again."""
        if all(known.name != name for known in self._inputs):
            self._inputs.append(helper.make_tensor_value_info(name, kind, ["rows", width]))
        return name

    def constant(self, array: NDArray[Any] | float | list[int], kind: str | None = None) -> str:
        """A constant as it is, or of another type."""
        found = np.ascontiguousarray(array, dtype=kind)
        # A number alone stays without dimensions.
        found = found.reshape(np.shape(array))
        name = self._name()
        self._constants.append(numpy_helper.from_array(found, name))
        return name

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """The first result of an operation."""
        return self.all_of(operation, 1, *inputs, **attributes)[0]

    def all_of(self, operation: str, results: int, *inputs: str, **attributes: Any) -> list[str]:
        """The first so many results of an operation."""
        names = [self._name() for _ in range(results)]
        self._nodes.append(helper.make_node(operation, inputs, names, **attributes))
        return names

    def cast(self, value: str, kind: int) -> str:
        return self.add("Cast", value, to=kind)

    def reshape(self, value: str, *shape: int) -> str:
        """0 keeps a dimension, -1 takes what is left."""
        return self.add("Reshape", value, self.constant([*shape], "int64"))

    def dense(self, value: str, weight: NDArray[Any], bias: NDArray[Any] | None) -> str:
        """As `torch.nn.Linear`, along the last dimension."""
        found = self.add("MatMul", value, self.constant(weight.T, "float32"))
        return found if bias is None else self.add("Add", found, self.constant(bias, "float32"))

    def activate(self, name: str, value: str, slope: NDArray[Any] | float) -> str:
        """One of `catalog.activations`; `slope` of leaky_relu and prelu."""
        if name == "swish":
            return self.add("Mul", value, self.add("Sigmoid", value))
        if name == "step":
            return self.cast(self.add("Greater", value, self.constant(0.0, "float32")), FLOAT)
        if name == "leaky_relu":
            return self.add("LeakyRelu", value, alpha=float(slope))
        if name == "prelu":
            return self.add("PRelu", value, self.constant(np.reshape(slope, 1), "float32"))
        operations = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "gelu": "Gelu"}
        return self.add(operations[name], value)

    def model(self, result: str, shape: list[int], metadata: dict[str, str]) -> bytes:
        """The file: `prediction`, float64 (rows, *shape)."""
        self._nodes.append(helper.make_node("Identity", [result], ["prediction"]))
        outputs = [helper.make_tensor_value_info("prediction", DOUBLE, ["rows", *shape])]
        graph = helper.make_graph(self._nodes, "model", self._inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        helper.set_model_props(made, metadata)
        onnx.checker.check_model(made, full_check=True)
        content: bytes = made.SerializeToString()
        return content

    def _name(self) -> str:
        self._names += 1
        return f"v{self._names}"
