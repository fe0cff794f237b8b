"""How far the numbers at the end of a study can be trusted: simulated studies with known truth.

A study draws data from normal distributions, scores 20 settings (regularization and features) of
ridge regression (for two classes of -1 and 1) on 5 folds of 100 rows, confirms the best 5 and
trial 0, the default, on fresh folds, 2 x 5, and refits the winner. Its true score is that on 20,000
fresh rows. Measured on 1,000 studies of each kind: how often the interval from held-out rows covers
it, how wide that is beside the exact one, how far each estimate is off, and how often the winner is
worse than the default. On one thread.

usage: python -m benchmarks.honesty [--quick]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.model_selection import KFold, StratifiedKFold
from threadpoolctl import threadpool_limits

from benchmarks.lines import emit
from workers import metrics
from workers.evidence import intervals
from workers.evidence.bootstrap_cv import bootstrap_cv

STUDIES, QUICK = 1000, 100
ROWS, FRESH, FEATURES = 100, 20_000, 30
# Each feature matters half as much as the one before: most are noise, so that tuning can help.
FADING = 0.5
SETTINGS, CONFIRMED, FOLDS, REPEATS = 20, 5, 5, 2

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """Studies alike. `strength`: length of the signal; `held_out`: rows, as often as there are
    numbers, all from the same study.
    """

    name: str
    metric: str
    strength: float
    held_out: tuple[int, ...]

    @property
    def classes(self) -> bool:
        """Whether two classes are told apart, not numbers predicted."""
        return self.metric == "accuracy"


# The strengths make refitted models score what the names say.
KINDS = (
    Kind("accuracy .8", "accuracy", 1.01, (30, 100, 400)),
    Kind("accuracy .97", "accuracy", 2.12, (30, 100, 400)),
    Kind("R2 .8", "r2", 2.4, (100, 400)),
)


@dataclass(frozen=True)
class Setting:
    """A regularization and the features that are used, (features,) bool."""

    alpha: float
    used: NDArray[np.bool_]


@dataclass(frozen=True)
class HeldOut:
    """An estimate from so many rows; the exact interval's width (accuracy); the metric's bias."""

    rows: int
    value: float
    low: float
    high: float
    exact: float
    bias: float


@dataclass(frozen=True)
class Outcome:
    """Of one study: true scores of the confirmed winner, of the plain best and of the default;
    the estimates of the first from held-out rows; and of the second from its folds.
    """

    confirmed: float
    best: float
    default: float
    held_out: tuple[HeldOut, ...]
    best_cv: float
    corrected: float
    corrected_covers: bool


class Study:
    """Data of one study, and what its settings predict."""

    def __init__(self, kind: Kind, seed: int) -> None:
        self.kind, self._seed = kind, seed
        self._rng = np.random.default_rng([KINDS.index(kind), seed])
        direction = self._rng.normal(size=FEATURES) * FADING ** np.arange(FEATURES)
        self._signal = kind.strength * direction / np.linalg.norm(direction)
        self._inputs, self.target = self.draw(ROWS)
        drawn = [
            Setting(10 ** self._rng.uniform(-2, 3), self._rng.random(FEATURES) < share)
            for share in self._rng.uniform(0.3, 1, SETTINGS - 1)
        ]
        self.settings = [Setting(1.0, np.ones(FEATURES, dtype=bool)), *drawn]

    def draw(self, rows: int) -> tuple[Floats, NDArray[Any]]:
        """Inputs and targets: two classes around opposite means, or a linear signal and noise."""
        noise = self._rng.normal(size=(rows, FEATURES))
        if not self.kind.classes:
            return noise, noise @ self._signal + self._rng.normal(size=rows)
        target = self._rng.integers(0, 2, rows)
        return noise + np.outer(2 * target - 1, self._signal), target

    def out_of_fold(self, settings: Sequence[Setting], repeat: int) -> tuple[Floats, Floats]:
        """What is predicted of each row, (settings, rows, outputs), and mean scores over folds."""
        splitter = StratifiedKFold if self.kind.classes else KFold
        folds = splitter(FOLDS, shuffle=True, random_state=1000 * self._seed + repeat)
        said = np.empty((len(settings), ROWS, 1 + self.kind.classes))
        scores = np.empty((FOLDS, len(settings)))
        for fold, (train, valid) in enumerate(folds.split(self._inputs, self.target)):
            of_fold = [self._predicted(each, train, self._inputs[valid]) for each in settings]
            said[:, valid] = np.stack(of_fold)
            scores[fold] = self.scores(said[:, valid], self.target[valid])
        return said, scores.mean(0)

    def refitted(self, setting: Setting, inputs: Floats) -> Floats:
        """What the setting fitted to all rows predicts, (rows, outputs)."""
        return self._predicted(setting, np.arange(ROWS), inputs)

    def scores(self, said: Floats, target: NDArray[Any]) -> Floats:
        """The metric of each setting, (settings,), of `said` (settings, rows, outputs)."""
        prediction, wanted = self.tensors(said, target)
        metric, lanes = self.kind.metric, (len(said), *wanted.shape)
        ones = torch.ones(said.shape[:2], dtype=torch.float64)
        found: Floats = metrics.measure([metric], prediction, wanted.expand(lanes), ones)[
            metric
        ].numpy()
        return found

    def tensors(self, said: Floats, target: NDArray[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prediction and target as the statistics take them."""
        shaped = target if self.kind.classes else target[:, None]
        return torch.from_numpy(said), torch.from_numpy(shaped)

    def _predicted(self, setting: Setting, train: NDArray[Any], inputs: Floats) -> Floats:
        target = self.target[train]
        wanted = 2.0 * target - 1 if self.kind.classes else target
        line = ridge(self._inputs[np.ix_(train, setting.used)], wanted, setting.alpha)
        number = inputs[:, setting.used] @ line[1:] + line[0]
        if not self.kind.classes:
            return number[:, None]
        second = 1 / (1 + np.exp(-number))
        return np.stack([1 - second, second], axis=1)


def ridge(inputs: Floats, target: Floats, alpha: float) -> Floats:
    """Intercept and coefficients as scikit-learn's Ridge finds them, without its checks, which
    would take most of the time of a study.
    """
    means = inputs.mean(0)
    apart = inputs - means
    square = apart.T @ apart + alpha * np.eye(inputs.shape[1])
    coefficients = np.linalg.solve(square, apart.T @ (target - target.mean()))
    return np.concatenate([[target.mean() - means @ coefficients], coefficients])


def run(kind: Kind, seed: int) -> Outcome:
    """One study from its data to its true scores."""
    study = Study(kind, seed)
    said, values = study.out_of_fold(study.settings, 0)
    order = np.argsort(-values, kind="stable")
    best, confirmed = int(order[0]), _confirmed(study, order)
    inputs, target = study.draw(FRESH)
    told = (best, confirmed, 0)
    refitted = np.stack([study.refitted(study.settings[each], inputs) for each in told])
    truth = study.scores(refitted, target)
    predictions, wanted = study.tensors(said[:, None], study.target)
    corrected = bootstrap_cv(kind.metric, "maximize", predictions, wanted, seed=seed)
    return Outcome(
        confirmed=float(truth[1]),
        best=float(truth[0]),
        default=float(truth[2]),
        held_out=tuple(_held_out(study, study.settings[confirmed], n) for n in kind.held_out),
        best_cv=float(values[best]),
        corrected=corrected.value,
        corrected_covers=corrected.low <= truth[0] <= corrected.high,
    )


def _confirmed(study: Study, order: NDArray[Any]) -> int:
    """The best mean over fresh folds of the best few settings and the default."""
    chosen = sorted({0, *(int(each) for each in order[:CONFIRMED])})
    settings = [study.settings[each] for each in chosen]
    values = [study.out_of_fold(settings, 1 + repeat)[1] for repeat in range(REPEATS)]
    return chosen[int(np.mean(values, axis=0).argmax())]


def _held_out(study: Study, setting: Setting, rows: int) -> HeldOut:
    inputs, target = study.draw(rows)
    tensors = study.tensors(study.refitted(setting, inputs), target)
    found = intervals.estimates("winner", [study.kind.metric], *tensors)[0]
    assert found.low is not None
    assert found.high is not None
    exact = math.nan
    if study.kind.classes:
        ends = stats.binomtest(round(found.value * rows), rows).proportion_ci(method="exact")
        exact = ends.high - ends.low
    return HeldOut(rows, found.value, found.low, found.high, exact, found.bias or 0.0)


def report(kind: Kind, outcomes: Sequence[Outcome]) -> list[tuple[bool, float, float]]:
    """Print the lines of one kind; for each interval, whether it covers, its width and the exact
    one's.
    """
    every = []
    for at, rows in enumerate(kind.held_out):
        found = [(each.held_out[at], each.confirmed) for each in outcomes]
        covers = [one.low <= truth <= one.high for one, truth in found]
        every += [
            (covered, one.high - one.low, one.exact)
            for covered, (one, _) in zip(covers, found, strict=True)
        ]
        case = f"{kind.name}, {rows} held-out rows"
        _share(f"coverage, {case}", covers, 0.91)
        plain = float(np.mean([one.value - truth for one, truth in found]))
        errors = [one.value - one.bias - truth for one, truth in found]
        _error(f"mean error, {case}", errors, plain)
    _choices(kind, outcomes)
    return every


def _share(case: str, covers: Sequence[bool], least: float) -> None:
    share = float(np.mean(covers))
    more = {"studies": len(covers)}
    target = f">= {least}"
    emit("honesty", case, "share", share, target=target, met=share >= least, more=more)


def _error(case: str, errors: Sequence[float], plain: float) -> None:
    """`plain`: the mean error where the metric's own bias on few rows is left in."""
    mean, error = float(np.mean(errors)), float(stats.sem(errors))
    emit(
        "honesty",
        case,
        "score",
        mean,
        peer=plain,
        peer_name="without correction for so few rows",
        target="within 3 standard errors of 0",
        met=bool(abs(mean) <= 3 * error),
        more={
            "standard_error": round(error, 6),
            "standard_errors_from_0": round(mean / error, 2),
            "studies": len(errors),
        },
    )


def _choices(kind: Kind, outcomes: Sequence[Outcome]) -> None:
    """What the choice among settings does to the score that chose, and to the truth."""
    plain = np.array([each.best_cv - each.best for each in outcomes])
    corrected = np.array([each.corrected - each.best for each in outcomes])
    peer, told = "best cross-validated value", {"rows": ROWS, "settings": SETTINGS}
    for name, value in (("mean error", np.mean), ("root mean squared error", _root)):
        emit(
            "honesty",
            f"bootstrap cross-validation, {name}, {kind.name}",
            "score",
            float(value(corrected)),
            peer=float(value(plain)),
            peer_name=peer,
            more=told,
        )
    covers = float(np.mean([each.corrected_covers for each in outcomes]))
    emit("honesty", f"bootstrap cross-validation, coverage, {kind.name}", "share", covers)
    emit(
        "honesty",
        f"winner worse than the default, {kind.name}",
        "share",
        float(np.mean([each.confirmed < each.default for each in outcomes])),
        peer=float(np.mean([each.best < each.default for each in outcomes])),
        peer_name="without confirmation",
        more={
            "gain": round(float(np.mean([e.confirmed - e.default for e in outcomes])), 6),
            "gain_without_confirmation": round(
                float(np.mean([e.best - e.default for e in outcomes])), 6
            ),
            "true_score": round(float(np.mean([e.confirmed for e in outcomes])), 4),
        },
    )


def _root(errors: Floats) -> float:
    return float(np.sqrt((errors**2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the studies")
    studies = QUICK if parser.parse_args().quick else STUDIES
    torch.set_num_threads(1)
    every = []
    with threadpool_limits(1):
        for kind in KINDS:
            every += report(kind, [run(kind, seed) for seed in range(studies)])
    _share("coverage, all", [covers for covers, _, _ in every], 0.93)
    widths = np.array([(ours, exact) for _, ours, exact in every if not math.isnan(exact)])
    ours, exact = widths.mean(0)
    emit(
        "honesty",
        "mean width, accuracy",
        "score",
        float(ours),
        peer=float(exact),
        peer_name="exact (Clopper and Pearson)",
        target="<= 1.15 x the exact interval's",
        met=bool(ours <= 1.15 * exact),
    )


if __name__ == "__main__":
    main()
