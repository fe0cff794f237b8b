"""Generator and discriminator: each learns by its own loss, and rows look like data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from hpo_service import catalog, protocol
from tests import training
from tests.unit.test_generation import mixed
from workers import objective
from workers.data.folds import splits
from workers.data.parts import Table, split
from workers.generation import Generation
from workers.models import gan
from workers.training.lanes import Lanes
from workers.work import Work

FAST: dict[str, Any] = {
    "generator_units": 12,
    "discriminator_units": 10,
    "batch_size": 16,
    "noise": 5,
    "average": 0.0,
    "optimizer": "adam",
    "gradient_penalty": 1.0,
    "epochs": 3,
}


def rows() -> Table:
    return training.table(mixed(61))


def network(lanes: Lanes) -> gan.Gan:
    assert isinstance(lanes.network, gan.Gan)
    return lanes.network


def one(**params: Any) -> gan.Gan:
    return network(training.lanes(rows(), "gan", [(FAST | params, 0, 3)]))


def batch() -> torch.Tensor:
    return rows().train_inputs[:16].unsqueeze(0)


def halves(found: gan.Gan) -> tuple[slice, slice]:
    numbers = found.parameters.shape[1]
    return slice(0, found._made_by), slice(found._made_by, numbers)


@pytest.mark.parametrize("loss", ["standard", "hinge"])
@pytest.mark.parametrize("activation", ["leaky_relu", "prelu", "tanh", "swish", "gelu"])
def test_the_discriminators_gradient_is_that_of_its_loss(loss: str, activation: str) -> None:
    settings = {"loss": loss, "activation": activation, "gradient_penalty": 0.7}
    found, inputs = one(**settings, label_smoothing=0.1), batch()
    found.start_epoch([4])
    found.learn(0, inputs, torch.zeros(1, 16), 1 / 16)
    noise = found._noise._drawn[:, 0]

    def told_apart(flat: torch.Tensor) -> float:
        """The loss written down again."""
        weights = found._views(flat, leaves=False)
        real = inputs.clone().requires_grad_()
        of_real = found._mlp(gan.DISCRIMINATOR, weights, real).squeeze(2)
        of_made = found._mlp(gan.DISCRIMINATOR, weights, found._make(weights, noise)).squeeze(2)
        (slope,) = torch.autograd.grad(of_real.sum(), real)
        penalty = 0.35 * slope.square().sum(2)
        if loss == "hinge":
            told = (1 - of_real).clamp(min=0) + (1 + of_made).clamp(min=0)
        else:
            log = torch.nn.functional.logsigmoid
            told = -0.9 * log(of_real) - 0.1 * log(-of_real) - log(-of_made)
        return float((told + penalty).mean().detach())

    _, judged_by = halves(found)
    for at in range(judged_by.start, judged_by.stop, 7):
        assert found.gradient[0, at] == pytest.approx(slope(told_apart, found, at), abs=1e-6)


def slope(loss: Callable[[torch.Tensor], float], found: gan.Gan, at: int) -> float:
    """Of the loss by one number, by differences."""
    step, ends = 1e-6, []
    for sign in (1, -1):
        flat = found.parameters.clone()
        flat[0, at] += sign * step
        ends.append(loss(flat))
    return (ends[0] - ends[1]) / (2 * step)


def test_the_generators_gradient_is_that_of_its_loss_where_all_columns_are_numbers() -> None:
    table = training.table(training.small("generation"))
    found = network(training.lanes(table, "gan", [(FAST | {"activation": "tanh"}, 0, 3)]))
    found.start_epoch([2])
    found.learn(0, table.train_inputs[:16].unsqueeze(0), torch.zeros(1, 16), 1 / 16)
    noise = found._noise._drawn[:, 0]

    def fooled(flat: torch.Tensor) -> float:
        weights = found._views(flat, leaves=False)
        judged = found._mlp(gan.DISCRIMINATOR, weights, found._make(weights, noise))
        return float(torch.nn.functional.softplus(-judged).mean())

    made_by, _ = halves(found)
    for at in range(made_by.start, made_by.stop, 7):
        assert found.gradient[0, at] == pytest.approx(slope(fooled, found, at), abs=1e-6)


def test_neither_half_moves_by_the_others_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss ten times as large changes the gradient of its own half alone."""
    found = one(gradient_penalty=0.0)
    (made_by, judged_by), plain = halves(found), gradient(found)
    told_apart = gan.Gan._told_apart
    monkeypatch.setattr(gan.Gan, "_told_apart", lambda *given: 10 * told_apart(*given))
    scaled = gradient(one(gradient_penalty=0.0))
    torch.testing.assert_close(scaled[0, made_by], plain[0, made_by])
    torch.testing.assert_close(scaled[0, judged_by], 10 * plain[0, judged_by])


def gradient(found: gan.Gan) -> torch.Tensor:
    found.start_epoch([1])
    found.learn(0, batch(), torch.zeros(1, 16), 1 / 16)
    return found.gradient.clone()


def test_generated_rows_have_one_category_in_each_block_and_numbers_elsewhere() -> None:
    table = rows()
    assert table.blocks == ((2, 4), (4, 7))
    lanes = training.lanes(table, "gan", [(FAST, 0, 3)])
    lanes.epoch()
    made = network(lanes).generate(200, np.random.default_rng(0), 0)
    assert made.shape == (200, 7)
    for start, stop in table.blocks:
        assert set(made[:, start:stop].unique().tolist()) == {0.0, 1.0}
        assert (made[:, start:stop].sum(1) == 1).all()
        # A draw, not the likeliest: all categories occur.
        assert (made[:, start:stop].sum(0) > 0).all()
    assert len(made[:, 0].unique()) == 200


def test_the_halves_move_at_their_own_speeds() -> None:
    params = FAST | {"optimizer": "adam", "learning_rate": 0.01, "discriminator_rate": 0.1}
    lanes = training.lanes(rows(), "gan", [(params | {"batch_size": 64}, 0, 3)])
    before = network(lanes).parameters.clone()
    lanes.epoch()
    moved = (network(lanes).parameters - before).abs()
    made_by, judged_by = halves(network(lanes))
    # Adam's first step is the learning rate, wherever there is a gradient to speak of.
    assert moved[0, made_by].median() == pytest.approx(0.01, rel=1e-3)
    assert moved[0, judged_by].median() == pytest.approx(0.001, rel=1e-3)


def test_lanes_are_the_same_packed_and_alone_whatever_differs_between_them() -> None:
    # 61 rows in 3 folds: lanes of 40 and 41 rows, batches of 8, so that one has an idle step.
    base = FAST | {"batch_size": 8}
    settings = [
        (base | {"average": 0.9, "dropout": 0.3, "label_smoothing": 0.1}, 0, 1),
        (base | {"discriminator_rate": 3.0, "gradient_penalty": 0.2}, 1, 2),
        (base | {"average": 0.5, "weight_decay": 0.01, "learning_rate": 0.003}, 2, 3),
    ]
    table = rows()
    assert sorted(table.counts) == [40, 41, 41]
    packed = training.lanes(table, "gan", settings)
    alone = [training.lanes(table, "gan", [each]) for each in settings]
    for kept in ([0, 1, 2], [1, 2]):
        for _ in range(3):
            packed.epoch()
            for each in alone:
                each.epoch()
        packed.keep(kept)
        for lane, at in enumerate(kept):
            rng = [np.random.default_rng(5) for _ in range(2)]
            found = network(packed).generate(30, rng[0], lane)
            wanted = network(alone[at]).generate(30, rng[1], 0)
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
            arrays, others = packed.arrays(lane), alone[at].arrays(0)
            for name in arrays:
                np.testing.assert_allclose(arrays[name], others[name], rtol=1e-9, atol=1e-9)


def test_measuring_does_not_disturb_training() -> None:
    table = rows()
    measured, left = (training.lanes(table, "gan", [(FAST, 0, 3)]) for _ in range(2))
    for _ in range(3):
        measured.epoch()
        left.epoch()
        network(measured).generate(17, np.random.default_rng(0), 0)
    assert torch.equal(network(measured).parameters, network(left).parameters)


def test_an_average_makes_the_rows_and_is_what_is_stored() -> None:
    lanes = training.lanes(rows(), "gan", [(FAST | {"average": 0.9}, 0, 3)])
    for _ in range(4):
        lanes.epoch()
    found = network(lanes)
    newest, stored = found.unpack(found.parameters, 0), lanes.arrays(0)
    assert not np.allclose(newest["generator.0.weight"], stored["generator.0.weight"])
    np.testing.assert_array_equal(
        newest["discriminator.0.weight"], stored["discriminator.0.weight"]
    )
    before = found.generate(10, np.random.default_rng(0), 0)
    found.pack(stored, found.parameters, 0)
    found.settings = [found.settings[0].model_copy(update={"average": 0.0})]
    torch.testing.assert_close(found.generate(10, np.random.default_rng(0), 0), before)


def test_trained_rows_come_close_to_the_data() -> None:
    data = training.bundled("iris")
    parts = split(data, splits(data, protocol.Validation(folds=3), 0), "structured")
    table = Table.of(data.schema, parts, torch.float32, training.CPU)
    lanes = training.lanes(table, "gan", [({}, 0, 3)])
    held = Generation(parts[0], 0)

    def score() -> float:
        return held.score(
            lambda rows, draw: network(lanes).generate(rows, np.random.default_rng(draw), 0),
            ["mmd"],
        )["mmd"]

    before = score()
    for _ in range(60):
        lanes.epoch()
    assert score() < 0.2 * before
    assert score() < held.references["mmd_independent"]


def test_a_lease_reports_its_references_and_ends_with_samples(tmp_path: Path) -> None:
    data = mixed(120)
    search = training.blob(data, tmp_path / "search", slice(0, 90))
    held_out = training.blob(data, tmp_path / "held_out", slice(90, 120))
    lease = training.lease("gan", FAST, folds=3, record=["two_sample"])
    channel = training.Channel()
    objective.run(Work([lease], search, None, "cpu", 1), channel)
    tell = channel.tells[lease.lease_id]
    references = {"mmd_independent", "mmd_gaussian", "mmd_real"}
    beside = {"mmd_error", "copying", *references}
    assert tell.state == "complete"
    assert set(tell.metrics) == beside | {"two_sample", "train_loss"}
    first, last = (channel.reports[lease.lease_id][at] for at in (0, -1))
    assert all(first.metrics[name] == last.metrics[name] for name in references)
    refit = protocol.ModelSetting(
        name="winner", model="gan", params=FAST, epochs=3, seed=5, values=[0.5]
    )
    final = training.lease("gan", kind="final", refits=[refit])
    objective.run(Work([final], search, held_out, "cpu", 1), channel)
    tell = channel.tells[final.lease_id]
    assert [(each.metric, each.rows) for each in tell.estimates] == [("mmd", 30)]
    assert tell.values == [tell.estimates[0].value]
    assert set(tell.metrics) == beside
    assert set(channel.artifacts) == {"model", "samples.csv"}
    assert len(channel.artifacts["samples.csv"].splitlines()) == 201
    (tmp_path / "model").write_bytes(channel.artifacts["model"])
    with safe_open(tmp_path / "model", framework="numpy") as file:
        assert json.loads(file.metadata()["model"])["family"] == "gan"
        assert file.get_tensor("generator.0.weight").shape == (12, 5)


def test_settings_that_differ_in_form_are_not_packed() -> None:
    shapes = [
        gan.shape(catalog.settings_of(catalog.FAMILIES["gan"], params))  # type: ignore[arg-type]
        for params in ({}, {"noise": 3}, {"gradient_penalty": 0.0}, {"loss": "hinge"})
    ]
    assert len(set(shapes)) == 4
