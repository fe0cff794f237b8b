"""A search that ends when more trials would gain less than the noise of its best value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.integration.conftest import Api, new_id

NO_GAIN = {"trials": 90, "no_gain": True}
SPACE = {name: {"type": "float", "low": -1.0, "high": 1.0} for name in ("x", "y")}


def run(api: Api, noise: float, slope: float = 0.0, **spec: Any) -> Any:
    """Trials with five folds on a bowl, which deepens by `slope` each time, while there are any."""
    api.external(search_space=SPACE, **{"budget": NO_GAIN} | spec)
    rng = np.random.default_rng(3)
    for trial in range(90):
        leases = api.ask(new_id())
        if not leases:
            break
        params = leases[0]["params"]
        loss = params["x"] ** 2 + params["y"] ** 2 - slope * trial
        folds = (loss + noise * rng.normal(size=5)).tolist()
        value = float(np.mean(folds))
        point = {"lease_id": leases[0]["lease_id"], "step": 1, "values": [value], "folds": [folds]}
        api.post("/reports", {"reports": [point]})
        api.tell(leases[0], value, epoch=1)
    return api.get("/studies/sphere")


def test_it_ends_when_the_noise_is_larger_and_says_so(api: Api) -> None:
    study = run(api, noise=0.5)
    assert (study["state"], study["ended_by"]) == ("finished", "no_gain")
    assert 30 <= study["n_trials"] < 60
    assert 0 <= study["gain"]["expected"] <= study["gain"]["noise"]


@pytest.mark.parametrize(
    "more", [{"slope": 0.5, "noise": 0.01}, {"budget": {"trials": 40}, "noise": 0.5}]
)
def test_it_goes_on_while_there_is_something_to_gain_or_nobody_asked(
    api: Api, more: dict[str, Any]
) -> None:
    study = run(api, **more)
    assert study["ended_by"] == "budget"
    assert study["gain"] is None


def test_another_budget_goes_on_with_it(api: Api) -> None:
    ended = run(api, noise=0.5)
    again = api.patch("/studies/sphere", {"budget": {"trials": ended["n_trials"] + 1}})
    assert (again["state"], again["gain"]) == ("running", None)
    api.tell(api.leased(), 0.5)
    assert api.get("/studies/sphere")["ended_by"] == "budget"


def test_several_metrics_have_no_such_noise(api: Api) -> None:
    objective = {"kind": "external", "directions": ["minimize", "minimize"]}
    spec = {"name": "two", "objective": objective, "search_space": SPACE, "budget": NO_GAIN}
    answer = api.http.post("/v1/studies", json=spec)
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"][0]["field"] == "budget.no_gain"
