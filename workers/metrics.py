"""The metrics, many lanes at once; each agrees with scikit-learn's function of its name.

All take float64 tensors: `prediction` (lanes, rows, classes) probabilities, or
(lanes, rows, targets) numbers; `target` (lanes, rows) class codes, or (lanes, rows, targets);
`weight` (lanes, rows), what a row counts, 0 for padding. All give (lanes,). Several targets: the
mean over targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Score = Callable[[Tensor, Tensor, Tensor], Tensor]

# scikit-learn clips probabilities, and targets that divide, by the same amount.
SMALLEST_PROBABILITY = torch.finfo(torch.float64).eps
SMALLEST_RATE = 1e-6


def measure(
    names: Iterable[str], prediction: Tensor, target: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """The named metrics of each lane, (lanes,); NaN where a lane's predictions are not finite."""
    finite = prediction.isfinite().all(2).all(1)
    return {
        name: METRICS[name](prediction, target, weight).masked_fill(~finite, torch.nan)
        for name in names
    }


def accuracy(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Share of rows whose likeliest class is the true one."""
    return _mean_over_rows((prediction.argmax(2) == target).double(), weight)


def balanced_accuracy(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean recall over the classes that occur."""
    counts = _confusion(prediction, target, weight)
    occurring = counts.sum(2)
    return _mean_of(counts.diagonal(dim1=1, dim2=2) / occurring, occurring > 0)


def f1_macro(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean F1 over the classes that occur or are predicted."""
    counts = _confusion(prediction, target, weight)
    involved = counts.sum(1) + counts.sum(2)
    return _mean_of(2 * counts.diagonal(dim1=1, dim2=2) / involved, involved > 0)


def f1_weighted(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean F1 over the classes, each counted by its rows."""
    counts = _confusion(prediction, target, weight)
    occurring = counts.sum(2)
    scores = 2 * counts.diagonal(dim1=1, dim2=2) / (counts.sum(1) + occurring)
    return torch.where(occurring > 0, scores * occurring, 0.0).sum(1) / occurring.sum(1)


def mcc(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Correlation of true and predicted class (Matthews 1975; Gorodkin 2004 for several); 0 where
    one of the two is always the same.
    """
    counts = _confusion(prediction, target, weight)
    true, predicted = counts.sum(2), counts.sum(1)
    total, right = true.sum(1), counts.diagonal(dim1=1, dim2=2).sum(1)
    together = right * total - (true * predicted).sum(1)
    apart = (total**2 - (true**2).sum(1)) * (total**2 - (predicted**2).sum(1))
    return torch.where(apart > 0, together / apart.sqrt(), 0.0)


def roc_auc(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Chance that a row of a class gets a higher score for it than another row, ties half.

    Two classes: of the second. More: the mean over the classes that occur, each against the rest.
    NaN where the rows are all of one class.
    """
    scores, positive, negative = _against_the_rest(prediction, target, weight)
    below, up_to = _cumulated(scores, negative)
    pairs = positive.sum(2) * negative.sum(2)
    area = (positive * (below + up_to)).sum(2) / 2 / pairs
    return _mean_of(area, pairs > 0)


def average_precision(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean precision over the rows of a class, each as high up as its score; classes as `roc_auc`.

    NaN where no row is of the second of two classes.
    """
    scores, positive, negative = _against_the_rest(prediction, target, weight)
    found, others = (
        every.sum(2, keepdim=True) - _cumulated(scores, every)[0] for every in (positive, negative)
    )
    precision = torch.where(positive > 0, found / (found + others), 0.0)
    total = positive.sum(2)
    return _mean_of((positive * precision).sum(2) / total, total > 0)


def log_loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean of -log of the probability given to the true class."""
    given = prediction.gather(2, target[:, :, None]).squeeze(2)
    given = given.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return _mean_over_rows(-given.log(), weight)


def brier(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error of the probabilities, summed over the classes (0 to 2); of two classes
    half of that (0 to 1), which is the squared error of the second one's (Brier 1950).
    """
    true = torch.nn.functional.one_hot(target, prediction.shape[2])
    squares = (prediction - true).square().sum(2)
    if prediction.shape[2] == 2:
        squares = squares / 2
    return _mean_over_rows(squares, weight)


def perplexity(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Exponential of the log loss: among how many equally likely classes one would guess."""
    return log_loss(prediction, target, weight).exp()


def r2(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Share of the variance explained; of a constant target 1 if exact, else 0; NaN of one row."""
    rows = weight[:, :, None]
    mean = (target * rows).sum(1, keepdim=True) / rows.sum(1, keepdim=True)
    unexplained = ((target - prediction).square() * rows).sum(1)
    total = ((target - mean).square() * rows).sum(1)
    constant = (unexplained == 0).double()
    found = torch.where(total > 0, 1 - unexplained / total, constant).mean(1)
    return found.masked_fill((weight > 0).sum(1) < 2, torch.nan)


def rmse(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Root of the mean squared error."""
    squares = _mean_over_rows((target - prediction).square(), weight[:, :, None])
    return squares.sqrt().mean(1)


def mae(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error."""
    return _mean_over_rows((target - prediction).abs(), weight[:, :, None]).mean(1)


def median_absolute_error(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """What half of the rows are off by less than; between two rows their mean."""
    counted = weight[:, :, None].expand_as(target)
    errors, order = (target - prediction).abs().masked_fill(counted == 0, torch.inf).sort(1)
    sums = counted.gather(1, order).cumsum(1)
    half = sums[:, -1:] / 2
    middle = [(sums < half).sum(1, keepdim=True), (sums <= half).sum(1, keepdim=True)]
    lower, upper = (errors.gather(1, at) for at in middle)
    return ((lower + upper) / 2).squeeze(1).mean(1)


def mape(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error as a share of the target (1 is 100 %); a target of 0 makes it huge."""
    shares = (target - prediction).abs() / target.abs().clamp_min(SMALLEST_PROBABILITY)
    return _mean_over_rows(shares, weight[:, :, None]).mean(1)


def poisson_deviance(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean deviance of counts, 2 (y log(y / p) - y + p); predictions below `SMALLEST_RATE` count
    as that, since only positive ones have a deviance.
    """
    rate = prediction.clamp_min(SMALLEST_RATE)
    deviance = 2 * (torch.xlogy(target, target / rate) - target + rate)
    return _mean_over_rows(deviance, weight[:, :, None]).mean(1)


METRICS: dict[str, Score] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1_macro": f1_macro,
    "f1_weighted": f1_weighted,
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "mcc": mcc,
    "log_loss": log_loss,
    "brier": brier,
    "perplexity": perplexity,
    "r2": r2,
    "rmse": rmse,
    "mae": mae,
    "median_absolute_error": median_absolute_error,
    "mape": mape,
    "poisson_deviance": poisson_deviance,
}


def _mean_over_rows(rows: Tensor, weight: Tensor) -> Tensor:
    return (rows * weight).sum(1) / weight.sum(1)


def _mean_of(values: Tensor, known: Tensor) -> Tensor:
    """Mean over the classes that are known, (lanes, classes); NaN where none is."""
    return torch.where(known, values, 0.0).sum(1) / known.sum(1)


def _confusion(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Rows by (true, predicted) class: (lanes, classes, classes)."""
    classes = torch.arange(prediction.shape[2], device=prediction.device)
    true = (target[:, :, None] == classes) * weight[:, :, None]
    predicted = (prediction.argmax(2)[:, :, None] == classes).double()
    return true.transpose(1, 2) @ predicted


def _against_the_rest(
    prediction: Tensor, target: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted scores for a class, what each row counts as one of it, and as another one.

    (lanes, classes, rows); of two classes the second alone.
    """
    first = 1 if prediction.shape[2] == 2 else 0
    classes = torch.arange(first, prediction.shape[2], device=prediction.device)
    scores, order = prediction[:, :, first:].transpose(1, 2).sort(2)
    own = target[:, None, :] == classes[:, None]
    counted = weight[:, None, :]
    positive, negative = own * counted, ~own * counted
    return scores.contiguous(), positive.gather(2, order), negative.gather(2, order)


def _cumulated(scores: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """What counts below each row's score, and what up to it, ties included."""
    sums = torch.nn.functional.pad(weights.cumsum(2), (1, 0))
    left, right = (torch.searchsorted(scores, scores, right=each) for each in (False, True))
    return sums.gather(2, left), sums.gather(2, right)
