"""What networks minimise, row by row."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def row_losses(outputs: Tensor, target: Tensor, smoothing: Tensor | None) -> Tensor:
    """Placeholder signature, replaced by the merge."""
    if outputs.dim() == 4:
        raise ValueError("per-step losses come with the merge")
    if target.is_floating_point():
        return (outputs - target).square().mean(2)
    logs = functional.log_softmax(outputs, dim=2)
    return -logs.gather(2, target.unsqueeze(2)).squeeze(2)
