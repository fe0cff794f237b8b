"""How generated rows are measured, and how they are shown."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib import image
from numpy.typing import NDArray

from hpo_service import protocol
from tests import training
from workers import generation, samples
from workers.data.dataset import Dataset
from workers.data.parts import Part, part
from workers.generation import DRAWS, Generation

Floats = NDArray[np.float64]


def mixed(rows: int, seed: int = 0) -> Dataset:
    """Two numbers, one of them whole, and two categories of which one hangs on the number."""
    rng = np.random.default_rng(seed)
    first = rng.normal(50.0, 9.0, rows)
    numeric = np.column_stack([first, rng.integers(0, 9, rows)])
    categorical = np.column_stack([first > 50.0, rng.integers(0, 3, rows)]).astype(np.int64)
    names = [("size", []), ("floor", []), ("kind", ["small", "large"]), ("place", ["a", "b", "c"])]
    columns = [
        protocol.Column(
            name=name, kind="categorical" if categories else "numeric", categories=categories
        )
        for name, categories in names
    ]
    schema = protocol.DatasetSchema(
        task="regression", rows=rows, columns=columns, target=["target"], classes=[]
    )
    return Dataset(schema, numeric, categorical, rng.standard_normal((rows, 1)))


def cut(data: Dataset, valid: int) -> Part:
    """The last rows as validation rows."""
    at = np.arange(data.rows)
    return part(data, at[:-valid], data, at[-valid:], "structured")


def numbers(rows: int, width: int = 4, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    data = training.small("regression", rows=rows)
    columns = [protocol.Column(name=str(at), kind="numeric") for at in range(width)]
    schema = data.schema.model_copy(update={"columns": columns})
    return replace(data, schema=schema, numeric=rng.standard_normal((rows, width)))


def brute_force(rows: Floats, real: Floats, widths: list[float]) -> float:
    def kernel(one: Floats, other: Floats) -> float:
        square = float(((one - other) ** 2).sum())
        return sum(math.exp(-square / (2 * width**2)) for width in widths) / len(widths)

    def unequal(some: Floats) -> float:
        pairs = [(i, j) for i in range(len(some)) for j in range(len(some)) if i != j]
        return sum(kernel(some[i], some[j]) for i, j in pairs) / len(pairs)

    across = sum(kernel(one, other) for one in rows for other in real) / (len(rows) * len(real))
    return unequal(rows) + unequal(real) - 2 * across


def test_the_kernel_distance_is_that_of_a_plain_loop() -> None:
    found = cut(numbers(30), 9)
    train, rng = found.train_inputs, np.random.default_rng(1)
    apart = [np.linalg.norm(train[i] - train[j]) for i in range(len(train)) for j in range(i)]
    median = float(np.sort(apart)[(len(apart) - 1) // 2])
    widths = [median * factor for factor in (0.25, 0.5, 1.0, 2.0, 4.0)]
    rows = rng.standard_normal((7, 4)) + 0.3
    wanted = brute_force(rows, found.valid_inputs, widths)
    assert Generation(found, 0).mmd(torch.from_numpy(rows)) == pytest.approx(wanted, abs=1e-12)


def normal(shift: float, width: int = 4) -> generation.Sample:
    return lambda rows, draw: torch.from_numpy(
        np.random.default_rng(draw).standard_normal((rows, width)) + shift
    )


def test_rows_of_the_same_distribution_score_nothing_and_others_much() -> None:
    held = Generation(cut(numbers(1200), 300), 0)
    names = tuple(generation.MEASURES)
    same, other = held.score(normal(0.0), names), held.score(normal(3.0), names)
    assert abs(same["mmd"]) < 0.003
    assert same["two_sample"] < 0.04
    assert other["mmd"] > 0.3
    assert other["two_sample"] > 0.48
    assert abs(same["copying"] - 0.5) < 0.05
    # The columns are independent and normal, so the references are as good as real rows.
    for name in ("mmd_independent", "mmd_gaussian", "mmd_real"):
        assert abs(same[name]) < 0.003
    assert 0 < same["mmd_error"] < 0.002


def test_the_unbiased_distance_of_few_rows_is_zero_on_average() -> None:
    values = []
    for seed in range(200):
        found, fresh = cut(numbers(60, seed=seed), 8), numbers(8, seed=1000 + seed)
        rows = torch.from_numpy(found.preprocessing.inputs(fresh, np.arange(8)))
        values.append(Generation(found, seed).mmd(rows))
    assert abs(np.mean(values)) < 3 * np.std(values) / 200**0.5
    assert min(values) < 0


def test_references_see_what_hangs_together() -> None:
    held = Generation(cut(mixed(1200), 300), 0)
    found = held.references
    assert found["mmd_independent"] > 3 * abs(found["mmd_real"])
    assert found["mmd_gaussian"] < found["mmd_independent"]
    independent = held._independent()
    assert set(np.unique(independent[:, 2:])) == {0.0, 1.0}
    assert (independent[:, 2:4].sum(1) == 1).all()
    assert (independent[:, 4:].sum(1) == 1).all()


def test_rows_learnt_by_heart_show() -> None:
    found = cut(numbers(400), 200)
    train = torch.from_numpy(found.train_inputs)

    def copies(rows: int, draw: int) -> torch.Tensor:
        order = np.random.default_rng(draw).permutation(len(train))[:rows]
        return train[order] + 1e-3

    assert Generation(found, 0).score(copies, ["mmd"])["copying"] > 0.95
    # With more training rows than validation rows not every copy's original is looked at.
    found = cut(numbers(400), 100)
    train = torch.from_numpy(found.train_inputs)
    assert Generation(found, 0).score(copies, ["mmd"])["copying"] > 0.6


def test_rows_that_are_not_finite_score_not_a_number() -> None:
    held = Generation(cut(numbers(60), 20), 0)
    found = held.score(lambda rows, draw: torch.full((rows, 4), torch.nan), ["mmd", "two_sample"])
    assert all(math.isnan(found[name]) for name in ("mmd", "two_sample", "mmd_error", "copying"))
    assert math.isfinite(found["mmd_gaussian"])


class Made:
    """Generates what a sample gives."""

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def generate(self, rows: int, rng: np.random.Generator, lane: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal((rows, 4))) + self.shift


def test_an_estimate_has_an_interval_that_leaving_rows_out_explains() -> None:
    held = Generation(cut(numbers(200), 60), 0)
    names = ["mmd", "two_sample"]
    (mmd, two_sample), beside = generation.estimates("winner", Made(0.5), held, 7, names)
    assert mmd.low is not None
    assert mmd.high is not None
    assert mmd.low < mmd.value < mmd.high
    assert (two_sample.low, two_sample.high) == (None, None)
    assert set(beside) == {
        "mmd_error", "copying", "mmd_independent", "mmd_gaussian", "mmd_real"
    }  # fmt: skip
    sample = generation._sample(Made(0.5), 0, [7])
    without = []
    for row in range(held.rows):
        less = Generation(cut(numbers(200), 60), 0)
        less._valid = torch.cat([less._valid[:row], less._valid[row + 1 :]])
        draws = [held._draw(sample, draw) for draw in range(DRAWS)]
        without.append(np.mean([less.mmd(rows) for rows in draws]))
    wanted = ((held.rows - 1) / held.rows * ((without - np.mean(without)) ** 2).sum()) ** 0.5
    assert held.jackknife_error(sample) == pytest.approx(wanted, rel=1e-6)


def test_a_table_is_shown_in_its_units_and_categories() -> None:
    data = mixed(200)
    found = cut(data, 50)
    name, told = samples.samples(found.valid_inputs, found, data.schema)
    table = list(csv.reader(io.StringIO(told.decode())))
    assert name == "samples.csv"
    assert table[0] == ["size", "floor", "kind", "place"]
    for row, real, codes in zip(table[1:], data.numeric[-50:], data.categorical[-50:], strict=True):
        assert float(row[0]) == pytest.approx(real[0], rel=1e-5)
        assert row[1] == str(int(real[1]))
        assert row[2:] == [["small", "large"][codes[0]], "abc"[codes[1]]]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_shown_in_their_own_scale(channels: int) -> None:
    rng = np.random.default_rng(0)
    data = numbers(100, width=channels * 6)
    schema = data.schema.model_copy(update={"shape": [channels, 2, 3]})
    pixels = rng.integers(0, 17, (100, channels * 6)).astype(float)
    pixels[0, 0], pixels[1, 0] = 0, 16
    data = replace(data, schema=schema, numeric=pixels)
    found = cut(data, 64)
    name, told = samples.samples(found.valid_inputs, found, schema)
    picture = image.imread(io.BytesIO(told), format="png")
    larger = samples.PIXELS // 32
    assert name == "samples.png"
    assert picture.shape[:2] == (24 * larger, 32 * larger)
    # The tile in the second row and third column is image 10; its last pixel.
    shown = picture[5 * larger - 1, 11 * larger - 1, :channels]
    real = pixels[36 + 10].reshape(channels, 2, 3)[:, 1, 2]
    np.testing.assert_allclose(shown, real / 16, atol=1 / 128)
