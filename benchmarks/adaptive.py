"""Whether bootstrap cross-validation holds for a search that follows its own scores.

Settings drawn at random owe their scores nothing. A sampler goes where scores were good, on folds
that stay the same, so that its settings fit these folds ever better, and that is not in what the
bootstrap sees. Here a greedy search stands for all samplers, and goes further than they do: after
five random settings each next one is the best so far, moved a little. The studies are those of
`benchmarks.honesty`, on one thread.

usage: python -m benchmarks.adaptive [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks import honesty
from benchmarks.lines import emit
from workers.evidence.bootstrap_cv import bootstrap_cv

RANDOM = 5
# How far a setting is moved: in powers of ten of the regularization, and of the features.
FAR, FLIPPED = 0.5, 0.1
# Of the intervals those that are to cover; where fewer do, nested cross-validation has to be asked.
LEAST = 0.91


@dataclass(frozen=True)
class Searched:
    """Of one study: how far the best cross-validated value and the corrected one are above the
    truth of the setting that was chosen, and whether the interval covers that.
    """

    plain: float
    corrected: float
    covers: bool


def run(kind: honesty.Kind, seed: int) -> Searched:
    """One greedy search from its data to the true score of what it chose."""
    study = honesty.Study(kind, seed)
    rng = np.random.default_rng([seed, 1])
    settings = list(study.settings[:RANDOM])
    said, values = study.out_of_fold(settings, 0)
    while len(settings) < honesty.SETTINGS:
        settings.append(_moved(settings[int(values.argmax())], rng))
        more, value = study.out_of_fold(settings[-1:], 0)
        said, values = np.concatenate([said, more]), np.concatenate([values, value])
    inputs, target = study.draw(honesty.FRESH)
    chosen = settings[int(values.argmax())]
    truth = float(study.scores(study.refitted(chosen, inputs)[None], target)[0])
    predictions, wanted = study.tensors(said[:, None], study.target)
    found = bootstrap_cv(kind.metric, "maximize", predictions, wanted, seed=seed)
    return Searched(
        float(values.max()) - truth, found.value - truth, found.low <= truth <= found.high
    )


def _moved(setting: honesty.Setting, rng: np.random.Generator) -> honesty.Setting:
    flipped = rng.random(honesty.FEATURES) < FLIPPED
    return honesty.Setting(setting.alpha * 10 ** rng.normal(0, FAR), setting.used ^ flipped)


def report(kind: honesty.Kind, found: Sequence[Searched]) -> None:
    """The lines of one kind."""
    told = {"studies": len(found), "rows": honesty.ROWS, "settings": honesty.SETTINGS}
    share = float(np.mean([each.covers for each in found]))
    emit(
        "adaptive",
        f"bootstrap cross-validation, coverage, {kind.name}",
        "share",
        share,
        target=f">= {LEAST}",
        met=share >= LEAST,
        more=told,
    )
    emit(
        "adaptive",
        f"bootstrap cross-validation, mean error, {kind.name}",
        "score",
        float(np.mean([each.corrected for each in found])),
        peer=float(np.mean([each.plain for each in found])),
        peer_name="best cross-validated value",
        more=told,
    )


def main() -> None:
    """Search, each kind to its lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the studies")
    studies = honesty.QUICK if parser.parse_args().quick else honesty.STUDIES
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for kind in honesty.KINDS:
            report(kind, [run(kind, seed) for seed in range(studies)])


if __name__ == "__main__":
    main()
