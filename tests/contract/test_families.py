"""Every family, metric and optimizer by name: a new one is tested by standing in its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as reference

from hpo_service import catalog, errors, protocol
from hpo_service.catalog import activations, initializations, optimizers, schedules
from hpo_service.space import active
from tests import gradients, training
from tests.hyperparameters import hyperparameters
from workers import generation, metrics, objective
from workers.models import MODELS, NetworkModel
from workers.models.activations import ACTIVATIONS
from workers.models.initializations import INITIALIZATIONS
from workers.training import costs
from workers.training.lanes import Lanes
from workers.training.optimizers import OPTIMIZERS
from workers.training.schedules import SCHEDULES
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


def known(family: catalog.Family, params: dict[str, Any]) -> dict[str, Any]:
    """Those that are hyperparameters of the family."""
    return {n: value for n, value in params.items() if n in family.hyperparameters.model_fields}


def test_declarations_and_code_have_the_same_names() -> None:
    assert list(MODELS) == list(catalog.FAMILIES)
    assert [*metrics.METRICS, *generation.MEASURES, *costs.COSTS] == list(catalog.METRICS)
    assert tuple(OPTIMIZERS) == get_args(optimizers.Optimizer)
    assert tuple(SCHEDULES) == get_args(schedules.Schedule)
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
    data = training.blob(training.small_for(family, task), tmp_path / "data")
    fixed = {"epochs": 2} if family.network else {}
    tried = [corner | fixed for corner in corners(family.default_space)]
    leases = [training.lease(family.name, params, folds=3) for params in tried]
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
    rows = training.table(training.small_for(family, task), family=family.name)
    lanes = training.lanes(rows, family.name, [({"batch_size": 8}, part, part) for part in (0, 1)])
    losses = torch.stack([lanes.epoch() for _ in range(12)])
    assert (losses[-1] < 0.7 * losses[0]).all()


@pytest.mark.parametrize(("family", "task"), NETWORKS, ids=lambda each: getattr(each, "name", each))
def test_the_gradient_is_that_of_the_loss(family: catalog.Family, task: protocol.StudyTask) -> None:
    """Each weight array's, along a direction, beside the loss's difference quotient."""
    model = MODELS[family.name]
    assert isinstance(model, NetworkModel)
    rows = training.table(training.small_for(family, task), family=family.name)
    for params in ({}, *corners(family.default_space)):
        slopes = gradients.slopes(rows, family.name, {**params, **model.exact})
        for name, (told, measured) in slopes.items():
            if not name.startswith(model.opposed or "/"):
                assert told == pytest.approx(measured, rel=1e-4, abs=1e-7), (name, params)


LANES = st.fixed_dictionaries(
    {
        "optimizer": st.sampled_from(list(OPTIMIZERS)),
        "learning_rate": st.sampled_from([0.001, 0.003]),
        "momentum": st.sampled_from([0.0, 0.5]),
    },
    optional={
        "nesterov": st.booleans(),
        "weight_decay": st.sampled_from([0.001, 0.01]),
        "l1": st.just(1e-4),
        "performance_ratio": st.just(0.1),
        "clip_norm": st.sampled_from([0.1, 1.0]),
        "label_smoothing": st.just(0.1),
        "class_weights": st.just("balanced"),
        "dropout": st.sampled_from([0.1, 0.3]),
    },
)


@pytest.mark.parametrize(("family", "task"), NETWORKS, ids=lambda each: getattr(each, "name", each))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(LANES, min_size=3, max_size=3))
def test_a_lane_computes_the_same_packed_and_alone(
    family: catalog.Family, task: protocol.StudyTask, drawn: list[dict[str, Any]]
) -> None:
    if task != "classification":
        drawn = [{n: v for n, v in params.items() if n != "class_weights"} for params in drawn]
    # 43 rows in 3 folds, batches of 7: lanes differ in rows and in the number of their steps.
    # Rates are small: a network that is thrown about magnifies the last bit without bound.
    rows = training.table(training.small_for(family, task), family=family.name)
    lanes = sorted(
        (
            (known(family, params) | {"batch_size": 7}, part, part + 5)
            for part, params in enumerate(drawn)
        ),
        key=lambda lane: str(lane[0].get("optimizer")),
    )
    packed = training.lanes(rows, family.name, lanes)
    alone = [training.lanes(rows, family.name, [each]) for each in lanes]
    for _ in range(6):  # 25 to 30 steps
        together = packed.epoch()
        apart = torch.cat([each.epoch() for each in alone])
        torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)
    packed.keep([0, 2])
    for _ in range(6):
        packed.scale([0.5, 0.5])
        packed.epoch()
        for each in alone:
            each.scale([0.5])
            each.epoch()
    for lane, other in enumerate((alone[0], alone[2])):
        torch.testing.assert_close(said(packed, lane), said(other, 0), rtol=1e-9, atol=1e-9)


def said(lanes: Lanes, lane: int) -> torch.Tensor:
    """What a lane predicts, or the rows it makes."""
    if isinstance(lanes.network, generation.Generator):
        return lanes.network.generate(20, np.random.default_rng(0), lane)
    return lanes.predict()[lane]


SOME = {
    "plain": {},
    "penalties": {"l1": 1e-4, "weight_decay": 1e-3, "performance_ratio": 0.1, "clip_norm": 0.5},
    "rates": {"optimizer": "sgd", "nesterov": True, "schedule": "one_cycle", "dropout": 0.2},
    "plateau": {"schedule": "plateau", "schedule_epochs": 1, "schedule_factor": 0.5},
    "restarts": {"restarts": 2, "restart_score": "ensemble", "early_stopping": "inner"},
}


@pytest.mark.parametrize("how", SOME)
@pytest.mark.parametrize(("family", "task"), NETWORKS, ids=lambda each: getattr(each, "name", each))
def test_a_trial_goes_on_from_its_checkpoint_as_if_nothing_had_happened(
    family: catalog.Family, task: protocol.StudyTask, how: str, tmp_path: Path
) -> None:
    data = training.blob(training.small_for(family, task), tmp_path / "data")
    params = {"epochs": 6, "batch_size": 8, **SOME[how]}
    lease = training.lease(family.name, known(family, params), folds=3)
    whole = training.Channel()
    objective.run(Work([lease], data, None, "cpu", 1), whole)
    stop = protocol.Decision(action="stop")
    first = training.Channel({(lease.lease_id, 3): stop})
    objective.run(Work([lease], data, None, "cpu", 1), first)
    step, state = first.checkpoints[lease.lease_id]
    assert step == 3
    (tmp_path / "checkpoint").write_bytes(state)
    again, second = lease.model_copy(update={"resume_step": step}), training.Channel()
    kept = {lease.lease_id: tmp_path / "checkpoint"}
    objective.run(Work([again], data, None, "cpu", 1, kept), second)
    reports = whole.reports[lease.lease_id]
    assert first.reports[lease.lease_id] == reports[:3]
    assert second.reports[lease.lease_id] == reports[3:]
    assert second.tells == whole.tells
    assert second.artifacts == whole.artifacts


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("case", ["several", "two", "constant"])
@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_metric_agrees_with_scikit_learn(name: str, case: str, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    lane_rows = [7, 12, 30]
    if "classification" in catalog.METRICS[name].tasks:
        # Of four classes the last never occurs, and in the constant case only the first does.
        classes = 2 if case == "two" else 4
        # In tenths, so that there are ties, and probabilities of 0.
        chances = softmax(2 * rng.standard_normal((3, 30, classes)), axis=2)
        prediction = rng.multinomial(10, chances) / 10
        target = rng.integers(0, min(classes, 3), (3, 30)) * (case != "constant")
    else:
        prediction = rng.standard_normal((3, 30, 2))
        target = np.ones((3, 30, 2)) if case == "constant" else rng.gamma(1.0, size=(3, 30, 2))
        target[:, :3] = prediction[:, :3] ** 2
    real = np.arange(30) < np.array(lane_rows)[:, None]
    weight = real * (rng.integers(1, 9, (3, 30)) / 4 if weighted else 1.0)
    tensors = [torch.from_numpy(each) for each in (prediction, target, weight)]
    found = metrics.measure([name], *tensors)[name]
    wanted = [
        _reference(name, target[lane, :rows], prediction[lane, :rows], weight[lane, :rows])
        for lane, rows in enumerate(lane_rows)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


def _reference(name: str, target: Any, prediction: Any, weight: Any) -> float:
    classes, columns = prediction.argmax(-1), np.arange(prediction.shape[1])
    count: dict[str, Any] = {"sample_weight": weight}
    functions = {
        "accuracy": lambda: reference.accuracy_score(target, classes, **count),
        "balanced_accuracy": lambda: reference.recall_score(
            target, classes, labels=np.unique(target), average="macro", **count
        ),
        "f1_macro": lambda: reference.f1_score(target, classes, average="macro", **count),
        "f1_weighted": lambda: reference.f1_score(target, classes, average="weighted", **count),
        "roc_auc": lambda: _each_class(reference.roc_auc_score, target, prediction, weight),
        "average_precision": lambda: _each_class(
            reference.average_precision_score, target, prediction, weight
        ),
        "mcc": lambda: reference.matthews_corrcoef(target, classes, **count),
        "log_loss": lambda: reference.log_loss(target, prediction, labels=columns, **count),
        "brier": lambda: reference.brier_score_loss(
            target, prediction, labels=columns, scale_by_half="auto", **count
        ),
        "perplexity": lambda: np.exp(functions["log_loss"]()),
        "r2": lambda: reference.r2_score(target, prediction, **count),
        "rmse": lambda: reference.root_mean_squared_error(target, prediction, **count),
        "mae": lambda: reference.mean_absolute_error(target, prediction, **count),
        "median_absolute_error": lambda: reference.median_absolute_error(
            target, prediction, **count
        ),
        "mape": lambda: reference.mean_absolute_percentage_error(target, prediction, **count),
        "poisson_deviance": lambda: np.mean(
            [
                reference.mean_poisson_deviance(
                    target[:, at], prediction[:, at].clip(1e-6), **count
                )
                for at in range(2)
            ]
        ),
    }
    return float(functions[name]())


def _each_class(score: Any, target: Any, prediction: Any, weight: Any) -> Any:
    """Of two classes the second; else the mean over the classes that occur."""
    own = [1] if prediction.shape[1] == 2 else np.unique(target)
    scores = [score(target == each, prediction[:, each], sample_weight=weight) for each in own]
    return np.mean(scores)


TORCH: dict[str, Any] = {
    "sgd": lambda p, s: torch.optim.SGD(
        p,
        lr=s.learning_rate,
        momentum=s.momentum,
        weight_decay=s.weight_decay,
        nesterov=s.nesterov,
    ),
    "adam": lambda p, s: torch.optim.Adam(p, lr=s.learning_rate, weight_decay=s.weight_decay),
    "adamw": lambda p, s: torch.optim.AdamW(p, lr=s.learning_rate, weight_decay=s.weight_decay),
    "rmsprop": lambda p, s: torch.optim.RMSprop(
        p, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay
    ),
    "adagrad": lambda p, s: torch.optim.Adagrad(p, lr=s.learning_rate, weight_decay=s.weight_decay),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_agrees_with_pytorch(name: str) -> None:
    chosen = [
        hyperparameters(learning_rate=0.01, momentum=0.0),
        hyperparameters(learning_rate=0.1, momentum=0.9, weight_decay=0.01),
        hyperparameters(learning_rate=0.03, momentum=0.8, weight_decay=0.1, nesterov=True),
    ]
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(3, 20, dtype=torch.float64, generator=generator)
    theirs = [row.clone().requires_grad_() for row in parameters]
    ours = OPTIMIZERS[name](chosen, parameters)
    peers = [TORCH[name]([row], each) for row, each in zip(theirs, chosen, strict=True)]
    for step in range(30):
        gradient = torch.randn(3, 20, dtype=torch.float64, generator=generator)
        idle = [0] if step % 4 == 3 else []
        for lane, (row, peer) in enumerate(zip(theirs, peers, strict=True)):
            row.grad = gradient[lane].clone()
            if lane not in idle:
                peer.step()
        ours.step(parameters, gradient, idle)
    torch.testing.assert_close(parameters, torch.stack(theirs).detach(), rtol=1e-9, atol=1e-9)
