"""From what networks give to what a user reads: probabilities, or numbers in the data's units."""

from __future__ import annotations

import torch
from torch import Tensor

from hpo_service import protocol


def said(found: Tensor, task: protocol.Task, outputs: int, mean: Tensor, scale: Tensor) -> Tensor:
    """Logits or scaled numbers as float64, (lanes, rows, outputs); `mean` and `scale` of the
    targets (lanes or 1, 1, targets).

    With a class for each step: (lanes, rows, steps * outputs) to (lanes, rows * steps, outputs).
    """
    found = found.double()
    if task == "classification":
        return torch.softmax(found.reshape(len(found), -1, outputs), dim=2)
    return found * scale + mean
