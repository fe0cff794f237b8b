"""The loss of each row, for all families whose gradient comes from autograd."""

from __future__ import annotations

import torch
from torch import Tensor


def row_losses(outputs: Tensor, target: Tensor, smoothing: Tensor | None = None) -> Tensor:
    """(lanes, rows), differentiable by `outputs`; what is lost is said by the target.

    Codes (lanes, rows): cross entropy of the logits (lanes, rows, classes). Codes
    (lanes, rows, steps) with -1 for no label: its mean over a row's labelled steps, 0 without any,
    of the logits (lanes, rows, steps, classes). Numbers (lanes, rows, targets): squared error of
    outputs of the same shape, mean over the targets.

    `smoothing` (lanes,): the share of a label that goes to all classes alike (Szegedy et al. 2016),
    as `label_smoothing` of `torch.nn.functional.cross_entropy`; numbers have none.
    """
    if target.is_floating_point():
        return (outputs - target).square().mean(2)
    if target.dim() == 2:
        return _cross_entropy(outputs, target, smoothing)
    labelled = target >= 0
    losses = _cross_entropy(outputs, target.clamp(min=0), smoothing)
    return torch.where(labelled, losses, 0.0).sum(2) / labelled.sum(2).clamp(min=1)


def _cross_entropy(outputs: Tensor, codes: Tensor, smoothing: Tensor | None) -> Tensor:
    """Of each code, in the codes' shape."""
    logs = torch.log_softmax(outputs, dim=-1)
    losses = -logs.gather(-1, codes.unsqueeze(-1)).squeeze(-1)
    if smoothing is None:
        return losses
    share = smoothing.view(-1, *[1] * (codes.dim() - 1))
    return torch.lerp(losses, -logs.mean(-1), share)
