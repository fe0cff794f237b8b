"""Every family that is fitted at once, by name: beside scikit-learn, and made again of arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save
from sklearn import ensemble, linear_model, naive_bayes, neighbors, tree
from sklearn.compose import TransformedTargetRegressor
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from hpo_service import catalog, errors, protocol
from hpo_service.space import projected
from tests import training
from tests.contract.test_families import corners
from workers import objective
from workers.models import MODELS, EstimatorModel
from workers.models.base import Fitted
from workers.training import seeding
from workers.work import Work

FAMILIES = [family for name, family in catalog.FAMILIES.items() if not family.network]
# Classes, one number, several numbers.
CASES = [
    (family, outputs)
    for family in FAMILIES
    for task in family.tasks
    for outputs in (["classes"] if task == "classification" else ["number", "numbers"])
]
by_name = pytest.mark.parametrize(
    ("family", "outputs"), CASES, ids=lambda each: getattr(each, "name", each)
)


class Rows:
    """Standardised rows to train on, and fresh ones of the same kind."""

    def __init__(self, outputs: str, count: int = 150) -> None:
        task: protocol.Task = "classification" if outputs == "classes" else "regression"
        made = training.small(task, rows=count + 50)
        inputs = StandardScaler().fit_transform(made.numeric)
        noise = np.random.default_rng(1).standard_normal((count + 50, 3))
        target = made.target if outputs == "classes" else made.target + noise[:, :1]
        if outputs == "numbers":
            target = np.hstack([target, target**2 / 50 + noise[:, 1:2], 9 * noise[:, 2:]])
        self.inputs, self.target, self.fresh = inputs[:count], target[:count], inputs[count:]
        self.outputs = 3 if outputs != "number" else 1

    def fit(
        self,
        family: catalog.Family,
        params: dict[str, Any] | None = None,
        seed: int = 0,
        weights: NDArray[np.float64] | None = None,
    ) -> Fitted:
        settings = catalog.settings_of(family, params or {})
        model = estimator(family)
        return model.fit(settings, self.inputs, self.target, self.outputs, seed, weights)


def estimator(family: catalog.Family) -> EstimatorModel:
    model = MODELS[family.name]
    assert isinstance(model, EstimatorModel)
    return model


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_default_is_a_point_of_the_default_space(family: catalog.Family) -> None:
    default = family.hyperparameters().model_dump()
    for name, value in projected(family.default_space, default).items():
        assert value == default[name] or value == pytest.approx(default[name], abs=1e-6), name


REGRESSORS: dict[str, Callable[[], Any]] = {
    "linear_regression": linear_model.LinearRegression,
    "ridge": linear_model.Ridge,
    "lasso": lambda: scaled(linear_model.Lasso(alpha=0.01)),
    "elastic_net": lambda: scaled(linear_model.ElasticNet(alpha=0.01)),
    "polynomial_regression": lambda: make_pipeline(
        PolynomialFeatures(2, include_bias=False), StandardScaler(), linear_model.Ridge()
    ),
    "decision_tree": lambda: tree.DecisionTreeRegressor(random_state=0),
    "random_forest": lambda: ensemble.RandomForestRegressor(random_state=0),
    "gradient_boosting": lambda: MultiOutputRegressor(
        ensemble.HistGradientBoostingRegressor(random_state=0)
    ),
    "k_nearest_neighbors": neighbors.KNeighborsRegressor,
}
CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic_regression": lambda: linear_model.LogisticRegression(max_iter=1000),
    "naive_bayes": naive_bayes.GaussianNB,
    "decision_tree": lambda: tree.DecisionTreeClassifier(random_state=0),
    "random_forest": lambda: ensemble.RandomForestClassifier(random_state=0),
    "gradient_boosting": lambda: ensemble.HistGradientBoostingClassifier(random_state=0),
    "k_nearest_neighbors": neighbors.KNeighborsClassifier,
}


def scaled(regressor: Any) -> Any:
    return TransformedTargetRegressor(regressor, transformer=StandardScaler())


@pytest.mark.parametrize(
    ("family", "outputs"),
    # scikit-learn has no stepwise regression that goes by a criterion.
    [case for case in CASES if case[0].name != "stepwise_regression"],
    ids=lambda each: getattr(each, "name", each),
)
def test_the_default_is_scikit_learns(family: catalog.Family, outputs: str) -> None:
    rows = Rows(outputs)
    found = rows.fit(family).predict(rows.fresh)
    if outputs == "classes":
        wanted = CLASSIFIERS[family.name]().fit(rows.inputs, rows.target).predict_proba(rows.fresh)
    else:
        theirs = REGRESSORS[family.name]()
        forest = family.name == "random_forest" and outputs == "number"
        target = rows.target.ravel() if forest else rows.target
        wanted = theirs.fit(rows.inputs, target).predict(rows.fresh).reshape(found.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


@by_name
def test_the_arrays_make_the_same_model_again(family: catalog.Family, outputs: str) -> None:
    rows = Rows(outputs)
    for params in ({}, *corners(family.default_space)):
        fitted = rows.fit(family, params)
        arrays = load(save({n: np.ascontiguousarray(a) for n, a in fitted.arrays().items()}))
        settings = catalog.settings_of(family, params)
        again = estimator(family).restore(settings, arrays, rows.outputs)
        wanted = fitted.predict(rows.fresh)
        assert wanted.shape == (len(rows.fresh), rows.outputs)
        np.testing.assert_allclose(again.predict(rows.fresh), wanted, rtol=1e-12, atol=1e-12)
        for name, array in again.arrays().items():
            np.testing.assert_array_equal(array, arrays[name])


@by_name
def test_the_same_seed_makes_the_same_model(family: catalog.Family, outputs: str) -> None:
    rows = Rows(outputs)
    draws = "max_features" in family.default_space
    drawn = {"max_features": 0.3} if draws else {}
    one, same, other = (rows.fit(family, drawn, seed).predict(rows.fresh) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, same)
    assert np.array_equal(one, other) != draws


@by_name
def test_weights_are_what_rows_count(family: catalog.Family, outputs: str) -> None:
    rows = Rows(outputs)
    plain = rows.fit(family).predict(rows.fresh)
    if family.name != "random_forest":  # which draws its rows by their weights
        same = rows.fit(family, weights=np.ones(len(rows.inputs))).predict(rows.fresh)
        np.testing.assert_allclose(plain, same, rtol=1e-6, atol=1e-9)
    weights = np.random.default_rng(0).uniform(0.01, 10, len(rows.inputs))
    weighted = rows.fit(family, weights=weights).predict(rows.fresh)
    assert np.allclose(plain, weighted) == (family.name == "k_nearest_neighbors")


@pytest.mark.parametrize(
    "family", [f for f, outputs in CASES if outputs == "classes"], ids=lambda f: f.name
)
def test_a_class_that_no_training_row_has_gets_no_probability(family: catalog.Family) -> None:
    rows = Rows("classes")
    for left in ([0, 2], [1, 2], [1]):
        some = Rows("classes")
        kept = np.isin(rows.target, left)
        some.inputs, some.target = rows.inputs[kept], rows.target[kept]
        fitted = some.fit(family)
        found = fitted.predict(rows.fresh)
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)
        assert not found[:, [c for c in range(3) if c not in left]].any()
        again = estimator(family).restore(catalog.settings_of(family, {}), fitted.arrays(), 3)
        np.testing.assert_allclose(again.predict(rows.fresh), found, rtol=1e-12)


def step_by_step(rows: Rows, direction: str, penalty: float) -> set[int]:
    """The columns that stepwise regression chooses, each step by refitting."""

    def criterion(chosen: set[int]) -> float:
        fitted = rows.target.mean()
        if chosen:
            inputs = rows.inputs[:, sorted(chosen)]
            fitted = linear_model.LinearRegression().fit(inputs, rows.target).predict(inputs)
        error = ((rows.target - fitted) ** 2).mean()
        return float(len(rows.target) * np.log(error) + penalty * len(chosen))

    columns = set(range(rows.inputs.shape[1]))
    chosen = set(columns) if direction == "backward" else set()
    while True:
        steps = [chosen | {c} for c in columns - chosen if direction != "backward"]
        steps += [chosen - {c} for c in chosen if direction != "forward"]
        best = min(steps, key=criterion, default=chosen)
        if criterion(best) >= criterion(chosen):
            return chosen
        chosen = best


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize(("name", "penalty"), [("aic", 2.0), ("bic", np.log(150))])
def test_stepwise_regression_takes_the_steps_that_refitting_would(
    direction: str, name: str, penalty: float
) -> None:
    rows, rng = Rows("number"), np.random.default_rng(3)
    # Columns that say almost the same, so that the way matters; one that says nothing new at all.
    near = rows.inputs + 0.3 * rng.standard_normal(rows.inputs.shape)
    rows.inputs = np.hstack([near[:, :1] + near[:, 1:2], near, rows.inputs])
    rows.target = rows.target + 9 * rng.standard_normal(rows.target.shape)
    family = catalog.FAMILIES["stepwise_regression"]
    params = {"direction": direction, "criterion": name}
    chosen = {int(c) for c in rows.fit(family, params).arrays()["coef"][0].nonzero()[0]}
    if direction == "backward":
        # Where one of three columns is the sum of the others, which one leaves is a toss.
        fewer = Rows("number")
        fewer.inputs, fewer.target = rows.inputs[:, 1:], rows.target
        rows = fewer
        chosen = {int(c) for c in rows.fit(family, params).arrays()["coef"][0].nonzero()[0]}
    assert chosen == step_by_step(rows, direction, penalty)
    assert 0 < len(chosen) < rows.inputs.shape[1]


def test_stepwise_regression_stops_at_a_number_of_columns() -> None:
    family = catalog.FAMILIES["stepwise_regression"]
    coef = Rows("numbers").fit(family, {"max_features": 1}).arrays()["coef"]
    assert ((coef != 0).sum(1) <= 1).all()


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_stepwise_regression_finds_its_columns_among_more_than_there_are_rows(
    direction: str,
) -> None:
    rows, rng = Rows("number", count=100), np.random.default_rng(0)
    rows.inputs = rng.standard_normal((100, 180))
    rows.target = 3 * rows.inputs[:, [7]] - 2 * rows.inputs[:, [99]] + rng.standard_normal((100, 1))
    family = catalog.FAMILIES["stepwise_regression"]
    (coef,) = rows.fit(family, {"direction": direction}).arrays()["coef"]
    assert (coef[7], coef[99]) == pytest.approx((3, -2), abs=0.7)
    assert (coef != 0).sum() <= 60


@pytest.mark.parametrize(
    ("name", "params", "columns", "message"),
    [
        ("polynomial_regression", {"degree": 4}, 30, r"params\.degree: 4 makes 46,375 terms of 30"),
        ("stepwise_regression", {}, 2001, "up to 2,000 columns, not 2,001: take lasso"),
    ],
)
def test_too_many_columns_are_refused_in_a_sentence(
    name: str, params: dict[str, Any], columns: int, message: str
) -> None:
    rows = Rows("number")
    rows.inputs = np.random.default_rng(0).standard_normal((150, columns))
    with pytest.raises(errors.InvalidRequest, match=message):
        rows.fit(catalog.FAMILIES[name], params)


def test_each_fold_draws_from_a_seed_of_its_own() -> None:
    found = {seeding.integer(seed, r, f) for seed in (0, 1) for r in range(3) for f in range(5)}
    assert len(found) == 30
    assert all(0 <= seed < 2**31 for seed in found)


def test_each_fold_hands_on_its_weights_and_a_seed_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, given = MODELS["ridge"], []
    assert isinstance(model, EstimatorModel)

    def fit(settings: Any, inputs: Any, target: Any, outputs: int, seed: int, weights: Any) -> Any:
        given.append((seed, weights))
        return model.fit(settings, inputs, target, outputs, seed, weights)

    monkeypatch.setitem(MODELS, "ridge", EstimatorModel(fit, model.restore))
    path = training.blob(training.weighted(training.small("regression")), tmp_path / "data")
    lease = training.lease("ridge", folds=3, seed=4)
    objective.run(Work([lease], path, None, "cpu", 1), training.Channel())
    assert [seed for seed, _ in given] == [seeding.integer(4, 0, fold) for fold in range(3)]
    for _, weights in given:
        assert weights.mean() == pytest.approx(1)
        assert np.unique(weights).size > 2
