"""Every family, metric and optimizer by name: a new one is tested by standing in its table."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics as reference

from hpo_service import catalog, errors, protocol
from hpo_service.catalog import activations, initializations, optimizers
from hpo_service.space import active
from tests import training
from workers import generation, metrics, objective
from workers.models import MODELS, NetworkModel
from workers.models.activations import ACTIVATIONS
from workers.models.initializations import INITIALIZATIONS
from workers.training.lanes import Lanes
from workers.training.optimizers import OPTIMIZERS
from workers.work import Work

TASKS = [(family, task) for family in catalog.FAMILIES.values() for task in family.tasks]
NETWORKS = [(family, task) for family, task in TASKS if family.network]
# The losses of adversaries need not fall.
PREDICTING = [(family, task) for family, task in NETWORKS if task != "generation"]


def corners(space: dict[str, protocol.Distribution]) -> list[dict[str, Any]]:
    """All low ends, all high ends, and each choice once; what is active."""
    ends: dict[str, list[Any]] = {
        name: each.choices if isinstance(each, protocol.Choice) else [each.low, each.high]
        for name, each in space.items()
    }
    most = max(map(len, ends.values()))
    found = [
        {name: values[at % len(values)] for name, values in ends.items()} for at in range(most)
    ]
    return [{n: v for n, v in each.items() if active(space, n, each)} for each in found]


def test_declarations_and_code_have_the_same_names() -> None:
    assert list(MODELS) == list(catalog.FAMILIES)
    assert [*metrics.METRICS, *generation.MEASURES] == list(catalog.METRICS)
    assert tuple(OPTIMIZERS) == get_args(optimizers.Optimizer)
    assert tuple(ACTIVATIONS) == get_args(activations.Activation)
    assert tuple(INITIALIZATIONS) == get_args(initializations.Initialization)
    for name, family in catalog.FAMILIES.items():
        assert family.name == name
        assert family.network == isinstance(MODELS[name], NetworkModel)


def test_one_hyperparameter_may_have_a_range_for_each_condition() -> None:
    family = catalog.FAMILIES["mlp"]
    assert catalog.settings_of(family, {"learning_rate@sgd": 0.25}).learning_rate == 0.25  # type: ignore[attr-defined]
    rate = protocol.FloatRange(type="float", low=0.1, high=0.5)
    sgd = rate.model_copy(update={"when": {"optimizer": ["sgd"]}})
    catalog.check_space(family, {"learning_rate@sgd": sgd, "learning_rate@other": sgd.model_copy(
        update={"when": {"optimizer": ["adam", "rmsprop"]}}
    )})  # fmt: skip
    for other in (rate, sgd):
        with pytest.raises(errors.InvalidRequest, match=r"b: may be active together with 'l"):
            catalog.check_space(family, {"learning_rate@a": sgd, "learning_rate@b": other})
    with pytest.raises(errors.InvalidRequest, match="has another value already"):
        catalog.settings_of(family, {"learning_rate": 0.1, "learning_rate@sgd": 0.1})


@pytest.mark.parametrize("family", catalog.FAMILIES.values(), ids=lambda family: family.name)
def test_a_default_space_is_legal_and_a_wrong_one_is_refused(family: catalog.Family) -> None:
    catalog.check_space(family, family.default_space)
    assert "epochs" not in family.default_space
    assert family.hyperparameters.model_json_schema()["properties"]
    wrong = protocol.FloatRange(type="float", low=-1.0, high=0.5)
    name = next(n for n, d in family.default_space.items() if d.type == "float")
    with pytest.raises(errors.InvalidRequest) as refused:
        catalog.check_space(family, {name: wrong, "no_such": wrong})
    fields = [each.field for each in refused.value.fields]
    assert fields == [f"search_space.{name}.low", "search_space.no_such"]
    with pytest.raises(errors.InvalidRequest, match=r"params\.no_such: not a hyperparameter"):
        catalog.settings_of(family, {"no_such": 1})


@pytest.mark.parametrize(("family", "task"), TASKS, ids=lambda each: getattr(each, "name", each))
def test_every_corner_of_the_default_space_ends_in_a_tell(
    family: catalog.Family, task: protocol.StudyTask, tmp_path: Path
) -> None:
    data = training.blob(training.small(task), tmp_path / "data")
    fixed = {"epochs": 2} if family.network else {}
    settings = [corner | fixed for corner in corners(family.default_space)]
    leases = [training.lease(family.name, params, folds=3) for params in settings]
    channel = training.Channel()
    objective.run(Work(leases, data, None, "cpu", 1), channel)
    for lease in leases:
        tell = channel.tells[lease.lease_id]
        # The fastest learning rates may diverge, which is an answer too.
        assert tell.state == "complete" or (tell.error and tell.error.reason == "non_finite")
    states = [tell.state for tell in channel.tells.values()]
    assert states.count("complete") > len(states) / 2


@pytest.mark.parametrize(
    ("family", "task"), PREDICTING, ids=lambda each: getattr(each, "name", each)
)
def test_training_lowers_the_loss(family: catalog.Family, task: protocol.StudyTask) -> None:
    rows = training.table(training.small(task))
    lanes = training.lanes(rows, family.name, [({}, 0, 0), ({}, 1, 1)])
    losses = torch.stack([lanes.epoch() for _ in range(12)])
    assert (losses[-1] < 0.7 * losses[0]).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("family", "task"), NETWORKS, ids=lambda each: getattr(each, "name", each))
def test_a_lane_computes_the_same_packed_and_alone(
    family: catalog.Family, task: protocol.StudyTask, optimizer: str
) -> None:
    # 43 rows in 3 folds, batches of 7: lanes differ in rows and in the number of their steps.
    rows = training.table(training.small(task))
    shared = {"batch_size": 7, "optimizer": optimizer}
    settings = [
        ({"learning_rate": 0.01, "weight_decay": 0.01} | shared, 0, 5),
        ({"learning_rate": 0.003, "dropout": 0.3, "momentum": 0.5} | shared, 1, 6),
        ({"learning_rate": 0.02, "dropout": 0.1, "weight_decay": 0.001} | shared, 2, 7),
    ]
    packed = training.lanes(rows, family.name, settings)
    alone = [training.lanes(rows, family.name, [each]) for each in settings]
    for _ in range(6):
        together = packed.epoch()
        apart = torch.cat([each.epoch() for each in alone])
        torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)
    packed.keep([0, 2])
    for _ in range(6):
        packed.epoch()
        for each in alone:
            each.epoch()
    for lane, other in enumerate((alone[0], alone[2])):
        torch.testing.assert_close(said(packed, lane), said(other, 0), rtol=1e-9, atol=1e-9)


def said(lanes: Lanes, lane: int) -> torch.Tensor:
    """What a lane predicts, or the rows it makes."""
    if isinstance(lanes.network, generation.Generator):
        return lanes.network.generate(20, np.random.default_rng(0), lane)
    return lanes.predict()[lane]


@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_metric_agrees_with_scikit_learn(name: str) -> None:
    rng = np.random.default_rng(0)
    declared = catalog.METRICS[name]
    for lane_rows, constant in itertools.product(([7, 12, 30],), (False, True)):
        if "classification" in declared.tasks:
            prediction = softmax(3 * rng.standard_normal((3, 30, 4)), axis=2)
            # Class 3 never occurs, and in the constant case only one class does.
            target = np.zeros((3, 30), dtype=int) if constant else rng.integers(0, 3, (3, 30))
        else:
            prediction = rng.standard_normal((3, 30, 2))
            target = np.ones((3, 30, 2)) if constant else rng.standard_normal((3, 30, 2))
        mask = np.arange(30) < np.array(lane_rows)[:, None]
        tensors = [torch.from_numpy(each) for each in (prediction, target, mask.astype(float))]
        found = metrics.measure([name], *tensors)[name]
        wanted = [
            _reference(name, target[lane, :rows], prediction[lane, :rows])
            for lane, rows in enumerate(lane_rows)
        ]
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
def _reference(name: str, target: Any, prediction: Any) -> float:
    classes = prediction.argmax(-1)
    functions = {
        "accuracy": lambda: reference.accuracy_score(target, classes),
        "balanced_accuracy": lambda: reference.recall_score(
            target, classes, labels=np.unique(target), average="macro"
        ),
        "f1_macro": lambda: reference.f1_score(target, classes, average="macro"),
        "log_loss": lambda: reference.log_loss(target, prediction, labels=np.arange(4)),
        "perplexity": lambda: np.exp(functions["log_loss"]()),
        "r2": lambda: reference.r2_score(target, prediction),
        "rmse": lambda: reference.root_mean_squared_error(target, prediction),
        "mae": lambda: reference.mean_absolute_error(target, prediction),
    }
    return float(functions[name]())


TORCH: dict[str, Any] = {
    "sgd": lambda p, s: torch.optim.SGD(
        p, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay
    ),
    "adam": lambda p, s: torch.optim.Adam(p, lr=s.learning_rate, weight_decay=s.weight_decay),
    "rmsprop": lambda p, s: torch.optim.RMSprop(
        p, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_agrees_with_pytorch(name: str) -> None:
    settings = [
        catalog.NetworkHyperparameters(learning_rate=0.01, momentum=0.0),
        catalog.NetworkHyperparameters(learning_rate=0.1, momentum=0.9, weight_decay=0.01),
    ]
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(2, 20, dtype=torch.float64, generator=generator)
    theirs = [row.clone().requires_grad_() for row in parameters]
    ours = OPTIMIZERS[name](settings, parameters)
    peers = [TORCH[name]([row], each) for row, each in zip(theirs, settings, strict=True)]
    for step in range(30):
        gradient = torch.randn(2, 20, dtype=torch.float64, generator=generator)
        idle = [0] if step % 4 == 3 else []
        for lane, (row, peer) in enumerate(zip(theirs, peers, strict=True)):
            row.grad = gradient[lane].clone()
            if lane not in idle:
                peer.step()
        ours.step(parameters, gradient, idle)
    torch.testing.assert_close(parameters, torch.stack(theirs).detach(), rtol=1e-9, atol=1e-9)
