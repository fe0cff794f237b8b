"""The metrics, many lanes at once; each agrees with scikit-learn's function of its name.

All take float64 tensors: `prediction` (lanes, rows, classes) probabilities, or
(lanes, rows, targets) numbers; `target` (lanes, rows) class codes, or (lanes, rows, targets);
`mask` (lanes, rows), 1 for real rows and 0 for padding. All give (lanes,). Several targets: the
mean over targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Score = Callable[[Tensor, Tensor, Tensor], Tensor]

# scikit-learn clips probabilities by the same amount.
SMALLEST_PROBABILITY = torch.finfo(torch.float64).eps


def measure(
    names: Iterable[str], prediction: Tensor, target: Tensor, mask: Tensor
) -> dict[str, Tensor]:
    """The named metrics of each lane, (lanes,); NaN where a lane's predictions are not finite."""
    finite = prediction.isfinite().all(2).all(1)
    return {
        name: METRICS[name](prediction, target, mask).masked_fill(~finite, torch.nan)
        for name in names
    }


def accuracy(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Share of rows whose likeliest class is the true one."""
    return _mean_over_rows((prediction.argmax(2) == target).double(), mask)


def balanced_accuracy(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean recall over the classes that occur."""
    counts = _confusion(prediction, target, mask)
    occurring = counts.sum(2)
    recalls = counts.diagonal(dim1=1, dim2=2) / occurring.clamp_min(1)
    return recalls.sum(1) / (occurring > 0).sum(1)


def f1_macro(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean F1 over the classes that occur or are predicted."""
    counts = _confusion(prediction, target, mask)
    involved = counts.sum(1) + counts.sum(2)
    scores = 2 * counts.diagonal(dim1=1, dim2=2) / involved.clamp_min(1)
    return scores.sum(1) / (involved > 0).sum(1)


def log_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean of -log of the probability given to the true class."""
    given = prediction.gather(2, target[:, :, None]).squeeze(2)
    given = given.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return _mean_over_rows(-given.log(), mask)


def perplexity(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Exponential of the log loss: among how many equally likely classes one would guess."""
    return log_loss(prediction, target, mask).exp()


def r2(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Share of the variance explained; of a constant target 1 if exact, else 0."""
    rows = mask[:, :, None]
    mean = (target * rows).sum(1, keepdim=True) / rows.sum(1, keepdim=True)
    unexplained = ((target - prediction).square() * rows).sum(1)
    total = ((target - mean).square() * rows).sum(1)
    constant = (unexplained == 0).double()
    return torch.where(total > 0, 1 - unexplained / total, constant).mean(1)


def rmse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Root of the mean squared error."""
    squares = _mean_over_rows((target - prediction).square(), mask[:, :, None])
    return squares.sqrt().mean(1)


def mae(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error."""
    return _mean_over_rows((target - prediction).abs(), mask[:, :, None]).mean(1)


METRICS: dict[str, Score] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1_macro": f1_macro,
    "log_loss": log_loss,
    "perplexity": perplexity,
    "r2": r2,
    "rmse": rmse,
    "mae": mae,
}


def _mean_over_rows(rows: Tensor, mask: Tensor) -> Tensor:
    return (rows * mask).sum(1) / mask.sum(1)


def _confusion(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Rows by (true, predicted) class: (lanes, classes, classes)."""
    classes = torch.arange(prediction.shape[2], device=prediction.device)
    true = (target[:, :, None] == classes) * mask[:, :, None]
    predicted = (prediction.argmax(2)[:, :, None] == classes).double()
    return true.transpose(1, 2) @ predicted
