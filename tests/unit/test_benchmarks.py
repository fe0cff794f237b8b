"""What benchmarks compare with must be right: a wrong peer makes every ratio wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import (
    StratifiedKFold,
    StratifiedShuffleSplit,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB

from benchmarks import (
    adaptive,
    arms,
    claims,
    families,
    histories,
    honesty,
    lines,
    rows,
    searches,
    suggest,
    trivial,
    verdicts,
)
from hpo_service import catalog, confirm, protocol
from hpo_service.samplers import grid

FOLDS = protocol.Validation(folds=5)


def test_the_most_frequent_class_is_scored_on_the_folds_of_the_seed() -> None:
    data = rows.read("breast_cancer")
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    scores = cross_val_score(
        DummyClassifier(strategy="most_frequent"), data.numeric, data.target, cv=folds
    )
    assert trivial.score("breast_cancer", "accuracy", FOLDS, 3)[1] == pytest.approx(scores.mean())


def test_the_last_value_is_a_forecast_with_weight_one_on_the_last_step() -> None:
    data = rows.read("sunspots")
    last = LinearRegression()
    last.coef_, last.intercept_ = np.eye(24)[-1:], 0.0
    parts = TimeSeriesSplit(5).split(data.target)
    scores = [last.score(data.numeric[valid], data.target[valid]) for _, valid in parts]
    assert trivial.score("sunspots", "r2", FOLDS, 0)[1] == pytest.approx(np.mean(scores))


def test_what_follows_a_symbol_tells_more_than_how_frequent_it_is() -> None:
    found = trivial.score("descriptions", "perplexity", FOLDS, 0)[1]
    symbols = len(rows.read("descriptions").schema.classes)
    assert 1 < trivial.bigram("descriptions", FOLDS, 0) < found < symbols


def test_a_metric_without_a_trivial_predictor_is_refused() -> None:
    with pytest.raises(ValueError, match="log_loss"):
        trivial.score("iris", "log_loss", FOLDS, 0)


@pytest.mark.parametrize("name", families.CASES)
def test_every_case_is_a_study_whose_parameters_are_legal(name: str) -> None:
    case = families.CASES[name]
    for quick in (False, True):
        spec = protocol.StudySpec.model_validate(case.spec(name, quick))
        assert isinstance(spec.objective, protocol.TrainObjective)
        assert spec.objective.holdout == 0
        catalog.settings_of(catalog.FAMILIES[case.model], spec.objective.params)


def test_every_family_of_networks_has_a_case() -> None:
    networks = {family.name for family in catalog.FAMILIES.values() if family.network}
    assert {case.model for case in families.CASES.values()} == networks


def test_a_line_says_how_many_times_less_was_needed(capsys: pytest.CaptureFixture[str]) -> None:
    lines.emit("bench", "case", "s", 2.0, peer=5.0, peer_name="other", more={"params": {"a": 1}})
    line = json.loads(capsys.readouterr().out)
    assert line["ratio"] == 2.5
    assert line["params"] == {"a": 1}


def test_the_ridge_of_simulated_studies_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    inputs, target = rng.normal(size=(40, 3)), rng.normal(size=40)
    model = Ridge(alpha=2.5).fit(inputs, target)
    found = honesty.ridge(inputs, target, 2.5)
    assert found == pytest.approx([model.intercept_, *model.coef_])


@pytest.mark.parametrize("kind", honesty.KINDS, ids=lambda kind: kind.name)
def test_a_simulated_study_has_the_truth_its_name_says(kind: honesty.Kind) -> None:
    first, again = honesty.run(kind, 0), honesty.run(kind, 0)
    truths = [first, *(honesty.run(kind, seed) for seed in range(1, 6))]
    assert first == again
    wanted = float(kind.name.split()[1])
    assert np.mean([each.confirmed for each in truths]) == pytest.approx(wanted, abs=0.03)
    assert tuple(each.rows for each in first.held_out) == kind.held_out
    assert all(each.low < each.value <= each.high for each in first.held_out)


@pytest.mark.parametrize("kind", honesty.KINDS, ids=lambda kind: kind.name)
def test_an_interval_that_misses_too_often_fails_its_target(
    kind: honesty.Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    held = honesty.HeldOut(rows=30, value=0.8, low=0.7, high=0.9, exact=0.3, bias=0.0)
    held_out = (held,) * len(kind.held_out)
    right, wrong = (
        honesty.Outcome(truth, truth, truth, held_out, 0.8, 0.8, True) for truth in (0.8, 0.6)
    )
    every = honesty.report(kind, [right] * 8 + [wrong] * 2)
    assert every[0] == (True, pytest.approx(0.2), 0.3)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    coverage = next(line for line in found if line["case"].startswith("coverage"))
    assert (coverage["ours"], coverage["met"]) == (0.8, False)


@pytest.mark.parametrize("name", verdicts.CASES)
def test_every_case_of_verdicts_is_a_study_that_ends_with_one(name: str) -> None:
    case = verdicts.CASES[name]
    spec = protocol.StudySpec.model_validate(case.spec(name, 1))
    assert isinstance(spec.objective, protocol.TrainObjective)
    assert spec.search_space is not None
    assert spec.objective.holdout == 0
    family = catalog.FAMILIES[case.model]
    catalog.settings_of(family, case.params)
    assert set(case.space) <= set(family.hyperparameters.model_fields) - set(case.params)
    # A fifth of the search pays for the best and the default on fresh folds.
    settings = confirm.SHARE * case.trials * verdicts.FOLDS // confirm.FOLDS
    assert settings >= confirm.FEWEST


def judged(better: int, others: int) -> verdicts.Judged:
    """Verdicts as they come from the service, so many of which claim a gain."""

    def one(answer: str) -> protocol.Verdict:
        return protocol.Verdict.model_validate(
            {
                "answer": answer, "baseline": "ridge", "metric": "r2", "difference": 0.01,
                "low": -0.01, "high": 0.03, "p": 0.2, "test": "a test", "detectable": 0.04,
                "smallest": 0.01,
            }
        )  # fmt: skip

    return verdicts.Judged([one("better")] * better + [one("cannot_tell")] * others, 9.0)


@pytest.mark.parametrize(("better", "met"), [(4, True), (5, False)])
def test_more_than_four_gains_of_sixty_where_there_is_none_fail(
    better: int, met: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts.report_false([judged(better, 20 - better), judged(0, 20), judged(0, 20)])
    line = json.loads(capsys.readouterr().out)
    assert (line["ours"], line["target"], line["met"]) == (better, "<= 4 of 60", met)


@pytest.mark.parametrize(("better", "met"), [(18, True), (17, False)])
def test_a_clear_gain_is_to_be_found_in_eighteen_of_twenty_studies(
    better: int, met: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    case = verdicts.CASES["cnn-digits"]
    verdicts.report("cnn-digits", case, judged(better, 20 - better))
    line, power = (json.loads(each) for each in capsys.readouterr().out.splitlines())
    assert (line["ours"], line["target"], line["met"]) == (better, ">= 18 of 20", met)
    assert line["share_interval"][0] < line["share"] < line["share_interval"][1]
    assert (power["ours"], power["peer"]) == (0.04, pytest.approx(0.01))


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_every_setting_of_a_claim_is_legal(name: str) -> None:
    claim = claims.CLAIMS[name]
    for case in claim.cases:
        for arm in (arm for pair in claim.pairs(case) for arm in pair):
            for setting in arm.settings:
                catalog.settings_of(catalog.FAMILIES[setting.model], setting.params)


def test_arms_are_scored_on_the_split_of_their_seed() -> None:
    case, data = arms.Case("wine", "accuracy", 0.5), rows.read("wine")
    found = arms.scores(case, [arms.Setting({}, "naive_bayes")], 3)
    split = StratifiedShuffleSplit(1, test_size=0.5, random_state=3)
    said = cross_val_score(GaussianNB(), data.numeric, data.target, cv=split)
    assert found == pytest.approx(said)


def test_a_strength_is_chosen_on_other_seeds_and_a_loss_is_better_where_it_is_less() -> None:
    case = arms.Case("wine", "log_loss", 0.5)
    base = {"epochs": 8, "hidden_units": 32}
    slow, quick = {"learning_rate": 1e-6}, {"learning_rate": 0.03}
    either, bad = arms.Arm.of("either", base, slow, quick), arms.Arm.of("bad", base | slow)
    chosen, left = arms.measure(case, [either, bad], choosing=1, scoring=6)
    assert chosen.setting.params == base | quick
    assert arms.difference(case, chosen, left).answer == "holds"
    assert arms.difference(case, left, chosen).answer == "the opposite"
    assert arms.difference(case, left, left).answer == "no difference shown"


def test_a_network_that_diverges_has_the_worst_value() -> None:
    wild = arms.Setting({"optimizer": "sgd", "learning_rate": 10.0, "epochs": 5})
    assert arms.scores(arms.Case("diabetes", "r2", 0.5), [wild], 0) == [-np.inf]


def test_the_interval_of_differences_is_that_of_the_paired_t_test() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 9))
    known = stats.ttest_rel(one, other).confidence_interval()
    found = arms.interval(one - other)
    assert (found.low, found.high) == pytest.approx((known.low, known.high))


def test_a_grid_search_looks_at_its_points_alone_and_finds_the_best_of_them() -> None:
    settings = searches.settings(epochs=1)
    corners = [
        at
        for at, setting in enumerate(settings)
        if all(
            np.isclose(setting.params[name], level[[0, len(level) // 2, -1]]).any()
            for name, level in searches.LEVELS.items()
        )
    ]
    assert len(corners) == searches.BUDGET
    table = np.random.default_rng(0).random(len(settings))
    assert searches.search("grid", table, 0) == max(corners, key=table.__getitem__)


def test_every_setting_of_a_table_is_the_nearest_to_itself() -> None:
    settings = searches.settings(epochs=1)
    assert [searches.nearest(each.params) for each in settings] == list(range(len(settings)))


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_a_sampler_finds_more_than_a_random_setting_has(sampler: str) -> None:
    table = np.array([-abs(at - 100.0) for at in range(225)])
    assert table[searches.search(sampler, table, 0)] > np.quantile(table, 0.8)


@pytest.mark.parametrize(("worse", "answer"), [(0.1, "holds"), (-0.1, "the opposite")])
def test_a_claim_holds_where_the_loss_is_less_on_every_split(
    worse: float, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = np.array([0.2, 0.3, 0.4])
    one, other = (
        arms.Measured(arms.Arm(name, ()), arms.Setting({}), values)
        for name, values in (("one", losses), ("other", losses + worse))
    )
    claims.report("a", "one is better", arms.Case("wine", "log_loss", 0.5), one, other)
    line = json.loads(capsys.readouterr().out)
    assert (line["better_by"], line["answer"]) == (pytest.approx(worse), answer)
    assert line["met"] == (answer == "holds")


def test_a_greedy_search_fits_its_folds_better_than_a_random_one() -> None:
    kind = honesty.KINDS[0]
    greedy, again = ([adaptive.run(kind, seed) for seed in range(6)] for _ in range(2))
    assert greedy == again
    values = [
        (each.best_cv - each.best, one.plain)
        for seed, one in enumerate(greedy)
        for each in [honesty.run(kind, seed)]
    ]
    random, followed = np.mean(values, axis=0)
    assert followed > random > 0


@pytest.mark.parametrize("sampler", ["random", "grid", "tpe"])
def test_a_study_that_was_written_in_bulk_goes_on_with_its_next_number(sampler: str) -> None:
    with histories.sqlite() as database:
        asked = suggest.Asked(database, histories.study(database, sampler, 30))
        one, other = asked.propose(2)
        assert (one.number, other.number) == (30, 31)
        asked.finish(one)
        assert [each.number for each in asked.propose(1)] == [31]
    known = [dict(each) for each in histories.settings(sampler, 30)]
    assert one.params not in known


def test_the_grid_of_a_long_history_has_the_points_it_says() -> None:
    spec = histories.spec_of("grid")
    assert spec.search_space is not None
    options = grid.GridOptions(points=histories.POINTS)
    assert grid.count(spec.search_space, options) == histories.GRID_POINTS
