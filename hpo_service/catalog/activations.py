"""Names of the activations; `workers.models.activations` has one entry for each."""

from __future__ import annotations

from typing import Literal

Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu", "prelu", "swish", "gelu", "step"]
