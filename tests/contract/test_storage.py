"""Our tables pass Optuna's own contract for storages, on both databases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import optuna
import pytest
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.study import StudyDirection
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState
from optuna.visualization.matplotlib import plot_slice

from hpo_service import errors
from hpo_service.database import Database
from hpo_service.storage import Storage
from hpo_service.tables import Study
from tests.searching import Bench

LR = distribution_to_json(FloatDistribution(1e-4, 0.1, log=True))


class TestOptunaContract(StorageTestCase):
    @pytest.fixture
    def storage(self, database_url: str) -> Iterator[Storage]:
        # The real clock: the suite compares times with its own.
        database = Database(database_url)
        yield Storage(database)
        database.close()


@pytest.fixture
def storage(database: Database) -> Storage:
    return Storage(database)


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_study_of_ours_is_read_and_plotted_by_optuna(bench: Bench, storage: Storage) -> None:
    bench.study(pruner={"name": "asha"}).run(20)
    running = bench.row(params={"lr": 0.01}, distributions={"lr": LR})
    bench.judge((running, 1, 0.5), (running, 2, None))
    bench.update(bench.row(), kind="baseline", number=None)

    study = optuna.load_study(study_name="study", storage=storage)
    *finished, last = study.trials
    assert [t.number for t in study.trials] == list(range(21))
    assert {t.state for t in finished} == {TrialState.COMPLETE, TrialState.FAIL}
    assert last.intermediate_values[1] == 0.5
    assert math.isnan(last.intermediate_values[2])
    assert study.best_value == min(t.value for t in finished if t.value is not None)
    for plot in (optuna.visualization.matplotlib.plot_optimization_history, plot_slice):
        plot(study)
    plt.close("all")


def test_optuna_tunes_a_study_of_its_own_in_our_tables(storage: Storage) -> None:
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial({"x": 0.25})

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        trial.report(x, 1)
        return x

    study.optimize(objective, n_trials=5)
    assert len(study.trials) == 5
    assert study.trials[0].params == {"x": 0.25}


@pytest.mark.parametrize("state", ["running", "waiting"])
def test_the_trials_of_a_train_study_are_not_optunas_to_write(
    bench: Bench, storage: Storage, state: str
) -> None:
    trial = bench.study(kind="train").row(state)
    writes: list[Callable[[], object]] = [
        lambda: storage.create_new_trial(bench.study_id),
        lambda: storage.set_trial_state_values(trial, TrialState.RUNNING),
        lambda: storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0]),
        lambda: storage.set_trial_param(trial, "x", 1.0, FloatDistribution(0, 1)),
        lambda: storage.set_trial_intermediate_value(trial, 1, 0.5),
        lambda: storage.set_trial_user_attr(trial, "a", 1),
        lambda: storage.set_trial_system_attr(trial, "a", 1),
    ]
    before = storage.get_trial(trial)
    for write in writes:
        with pytest.raises(errors.WrongState):
            write()
    assert storage.get_trial(trial) == before
    storage.set_study_user_attr(bench.study_id, "note", "studies may be annotated")


def test_a_leased_trial_is_its_workers_alone(bench: Bench, storage: Storage) -> None:
    trial = bench.study().row(lease_id="x")
    with pytest.raises(errors.WrongState):
        storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    # Optuna's way to take a waiting trial: somebody else was first.
    assert storage.set_trial_state_values(trial, TrialState.RUNNING) is False


def test_a_client_of_optuna_keeps_to_the_budget_and_to_a_pause(
    bench: Bench, storage: Storage, database: Database
) -> None:
    bench.study()
    for change, error in (({"budget_trials": 0}, errors.BudgetSpent),
                          ({"state": "paused"}, errors.WrongState)):  # fmt: skip
        with database.write() as (session, _):
            for name, value in change.items():
                setattr(session.get_one(Study, bench.study_id), name, value)
        with pytest.raises(error):
            storage.create_new_trial(bench.study_id)


def test_threads_number_their_trials_without_gaps(storage: Storage) -> None:
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: storage.create_new_trial(study_id), range(40)))
    assert [t.number for t in storage.get_all_trials(study_id)] == list(range(40))
