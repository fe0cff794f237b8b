"""How generated rows are measured: against real rows that the generator was not trained on.

`mmd`: unbiased squared maximum mean discrepancy (Gretton et al. 2012) with a sum of Gaussian
kernels; about 0 for rows of the same distribution, below 0 by chance. `two_sample`: by how much
nearest neighbours tell generated from real rows better than a coin (Lopez-Paz and Oquab 2017), 0
to 0.5. Both are of rows as networks see them, scaled and one-hot.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpo_service import protocol
from workers.data.parts import Part

Floats = NDArray[np.float64]
Sample = Callable[[int, int], Tensor]

DRAWS = 5
# Sets what is drawn to measure apart from what a lane draws to train.
MEASURING = 1
# Kernels as wide as the median distance of training rows, and up to four times wider or narrower.
WIDTHS = (4.0, 2.0, 1.0, 0.5, 0.25)
# Distances grow with the square of the rows; differences worth seeing show in as many.
MOST_ROWS = 1000
NEIGHBOURS, FOLDS = 5, 5
CERTAIN = 1.96  # standard errors to each side of a normal interval of 95 %


@runtime_checkable
class Generator(Protocol):
    """A network that makes rows."""

    def generate(self, rows: int, rng: np.random.Generator, lane: int) -> Tensor:
        """Rows of one lane, (rows, columns), laid out as its inputs; drawn from `rng` alone."""


class Generation:
    """What the generated rows of one part are held against; `seed` draws the real rows.

    The first score also measures, once, what else could make rows: `mmd_independent`, columns
    drawn apart from each other; `mmd_gaussian`, a fitted normal distribution; `mmd_real`, rows of
    the training part, the best that can be.
    """

    def __init__(self, part: Part, seed: int, device: torch.device | None = None) -> None:
        self._rng = np.random.default_rng([seed, len(part.train_inputs)])
        self._device = device or torch.device("cpu")
        self._blocks = [block for block in part.preprocessing.blocks if block[0] < block[1]]
        self._train = part.train_inputs
        self._valid = self._tensor(self._some(part.valid_inputs, MOST_ROWS))
        self.rows = len(self._valid)
        self._halved = 0.5 / (WIDTHS[0] * self._median_distance()) ** 2
        # As many training rows as there are validation rows, others for each draw.
        self._real = [self._tensor(self._some(self._train, self.rows)) for _ in range(DRAWS)]

    def score(self, sample: Sample, names: Iterable[str]) -> dict[str, float]:
        """Means over draws of `sample(rows, draw)`, (rows, columns), by name.

        The metrics named; `mmd_error`, the standard error over the draws; `copying`, the share of
        rows that are nearer to a training row than to a validation row, 0.5 unless rows were
        learnt by heart; and the references. NaN where a generated row is not finite.
        """
        draws = [self._draw(sample, draw) for draw in range(DRAWS)]
        finite = all(bool(rows.isfinite().all()) for rows in draws)
        measures = {name: MEASURES[name] for name in names} | {"copying": Generation._copying}
        found = {
            name: [measure(self, rows, at) if finite else math.nan for at, rows in enumerate(draws)]
            for name, measure in measures.items()
        }
        means = {name: statistics.fmean(values) for name, values in found.items()}
        if "mmd" not in found:
            return means
        error = statistics.stdev(found["mmd"]) / DRAWS**0.5 if finite else math.nan
        return means | {"mmd_error": error} | self.references

    @cached_property
    def references(self) -> dict[str, float]:
        """What others score, measured once."""
        others = {
            "mmd_independent": [self._tensor(self._independent()) for _ in range(DRAWS)],
            "mmd_gaussian": [self._tensor(rows) for rows in self._gaussian()],
            "mmd_real": self._real,
        }
        return {
            name: statistics.fmean(self.mmd(rows, at) for at, rows in enumerate(draws))
            for name, draws in others.items()
        }

    def mmd(self, rows: Tensor, draw: int = 0) -> float:
        """Of two rows or more, float64, and the validation rows."""
        across = self._kernel(_squared_distances(rows, self._valid)).mean()
        return float(self._unequal(rows) + self._valid_kernel - 2 * across)

    def two_sample(self, rows: Tensor, draw: int = 0) -> float:
        """|accuracy - 0.5| of the majority of nearest neighbours, cross-fitted."""
        both = torch.cat([rows, self._valid])
        of = torch.arange(len(both), device=self._device)
        made = (of < len(rows)).double()
        # Rows as they come are in no order, so that every fifth makes a fold; both halves alike.
        fold = torch.where(of < len(rows), of, of - len(rows)) % FOLDS
        distances = _squared_distances(both, both)
        distances.masked_fill_(fold[:, None] == fold[None, :], torch.inf)
        nearest = distances.topk(min(NEIGHBOURS, len(both)), largest=False).indices
        right = (made[nearest].mean(1) > 0.5) == (made > 0.5)
        return abs(float(right.double().mean()) - 0.5)

    def jackknife_error(self, sample: Sample) -> float:
        """Standard error of `mmd` as far as it comes from the choice of validation rows."""
        count = self.rows
        across = torch.stack(
            [
                self._kernel(_squared_distances(self._draw(sample, draw), self._valid)).mean(0)
                for draw in range(DRAWS)
            ]
        ).mean(0)
        kernel = self._kernel(_squared_distances(self._valid, self._valid))
        within = kernel.sum(1) - kernel.diagonal()
        # Each row left out once; what does not change with it is left aside.
        without = (within.sum() - 2 * within) / ((count - 1) * (count - 2))
        without -= 2 * (across.sum() - across) / (count - 1)
        return float((without - without.mean()).square().sum().mul((count - 1) / count).sqrt())

    def _draw(self, sample: Sample, draw: int) -> Tensor:
        return sample(self.rows, draw).double().to(self._device)

    def _copying(self, rows: Tensor, draw: int) -> float:
        real = self._real[draw]
        to_train = _squared_distances(rows, real).amin(1)
        to_valid = _squared_distances(rows, self._valid[: len(real)]).amin(1)
        # A tie says nothing: rows of few categories lie on many real ones.
        nearer = (to_train < to_valid).double() + 0.5 * (to_train == to_valid).double()
        return float(nearer.mean())

    # --- kernels ----------------------------------------------------------------------------

    def _kernel(self, squared: Tensor) -> Tensor:
        """Mean of Gaussian kernels of `WIDTHS`, each half as wide as the one before it."""
        value = squared.mul(-self._halved).exp_()
        total = value.clone()
        for _ in WIDTHS[1:]:
            value = value.square_().square_()
            total += value
        return total / len(WIDTHS)

    def _unequal(self, rows: Tensor) -> Tensor:
        """Mean kernel of all pairs of two rows."""
        kernel, count = self._kernel(_squared_distances(rows, rows)), len(rows)
        return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))

    @cached_property
    def _valid_kernel(self) -> Tensor:
        return self._unequal(self._valid)

    def _median_distance(self) -> float:
        some = self._tensor(self._some(self._train, MOST_ROWS))
        median = float(torch.nn.functional.pdist(some).median())
        # Where most rows are alike any width will do.
        return median or 1.0

    # --- what else could make rows ----------------------------------------------------------

    def _independent(self) -> Floats:
        """Each number and each category drawn from the training rows apart from the others."""
        width = self._train.shape[1]
        first = {start for start, _ in self._blocks}
        inside = {at for start, stop in self._blocks for at in range(start, stop)} - first
        found = np.empty((self.rows, width))
        for at in range(width):
            if at not in inside:
                drawn = self._rng.integers(len(self._train), size=self.rows)
            found[:, at] = self._train[drawn, at]
        return found

    def _gaussian(self) -> list[Floats]:
        """From the training rows' mean and covariance; of a block the largest is its category."""
        mean, covariance = self._train.mean(0), np.atleast_2d(np.cov(self._train, rowvar=False))
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(values.clip(min=0))
        draws = []
        for _ in range(DRAWS):
            rows = mean + self._rng.standard_normal((self.rows, len(mean))) @ root.T
            for start, stop in self._blocks:
                rows[:, start:stop] = np.eye(stop - start)[rows[:, start:stop].argmax(1)]
            draws.append(rows)
        return draws

    def _some(self, rows: Floats, count: int) -> Floats:
        """At most so many, in random order."""
        return rows[self._rng.permutation(len(rows))[:count]]

    def _tensor(self, rows: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self._device)


MEASURES: dict[str, Callable[[Generation, Tensor, int], float]] = {
    "mmd": Generation.mmd,
    "two_sample": Generation.two_sample,
}


def measure(
    network: Generator,
    against: Sequence[Generation],
    seeds: Sequence[Sequence[int]],
    names: Sequence[str],
) -> dict[str, Tensor]:
    """The scores of each lane by name, (lanes,): `against` and `seeds` have one entry a lane.

    The rows come from generators of their own, so that measuring changes nothing for the training,
    and from the same ones in every epoch, so that a curve shows what was learnt.
    """
    found = [
        held.score(_sample(network, lane, seed), names)
        for lane, (held, seed) in enumerate(zip(against, seeds, strict=True))
    ]
    return {name: torch.tensor([each[name] for each in found]).double() for name in found[0]}


def estimates(
    name: str, network: Generator, held: Generation, seed: int, names: Sequence[str]
) -> tuple[list[protocol.Estimate], dict[str, float]]:
    """What one lane's rows score on rows held out, and what else was measured beside it.

    Only `mmd` has an interval: normal, from the spread over draws and a jackknife over the rows.
    """
    sample = _sample(network, 0, [seed])
    scores = held.score(sample, names)
    found = []
    for metric in names:
        value, low, high, method = scores.pop(metric), None, None, "none"
        if not math.isfinite(value):
            continue
        if metric == "mmd" and held.rows > 2:
            reach = CERTAIN * math.hypot(scores["mmd_error"], held.jackknife_error(sample))
            low, high, method = value - reach, value + reach, "normal, jackknife over rows"
        found.append(
            protocol.Estimate(
                name=name,
                metric=metric,
                value=value,
                low=low,
                high=high,
                method=method,
                rows=held.rows,
            )
        )
    return found, scores


def _sample(network: Generator, lane: int, seed: Sequence[int]) -> Sample:
    """A lane's rows for each draw, from generators of their own."""

    def sample(rows: int, draw: int) -> Tensor:
        rng = np.random.Generator(np.random.SFC64([*seed, MEASURING, draw]))
        return network.generate(rows, rng, lane)

    return sample


def _squared_distances(some: Tensor, others: Tensor) -> Tensor:
    """(rows, others)."""
    squares = some.square().sum(1)[:, None] + others.square().sum(1)[None, :]
    return squares.addmm_(some, others.T, alpha=-2).clamp_(min=0)
