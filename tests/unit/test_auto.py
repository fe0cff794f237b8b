"""Which sampler is picked, and that it is the one that proposes."""

from __future__ import annotations

import numpy as np
import pytest

from hpo_service import protocol, space
from hpo_service.cube import Cube
from hpo_service.samplers import SAMPLERS, Ask, picks
from hpo_service.samplers.auto import ALONE, MOST_PARAMETERS, MOST_TRIALS
from hpo_service.seen import CODES, Seen


def cube(parameters: int) -> Cube:
    one = protocol.FloatRange(type="float", low=0.0, high=1.0)
    searched: space.Space = {f"x{at}": one for at in range(parameters)}
    return Cube(searched)


def seen(of: Cube, trials: int, metrics: int = 1) -> Seen:
    rows = np.random.default_rng(0).random((trials, len(of.names)))
    return Seen(
        cube=of,
        rows=rows,
        legal=np.ones(trials, dtype=bool),
        states=np.full(trials, CODES["complete"], dtype=np.int8),
        losses=np.repeat(rows[:, :1], metrics, axis=1),
        steps=np.zeros(trials, dtype=np.int64),
        attrs=[{}] * trials,
        at=lambda _step: np.full((trials, metrics), np.nan),
    )


@pytest.mark.parametrize(
    ("parameters", "metrics", "trials", "picked"),
    [
        (3, 1, ALONE - 1, "gp"),
        (3, 1, ALONE + 1, "gp"),
        (3, 1, ALONE + 2, "tpe"),
        (3, 1, MOST_TRIALS, "tpe"),
        (3, 2, 20, "tpe"),
        (MOST_PARAMETERS + 1, 1, 20, "tpe"),
    ],
)
def test_the_picked_sampler_proposes(
    parameters: int, metrics: int, trials: int, picked: str
) -> None:
    of = cube(parameters)
    known, ask = seen(of, trials, metrics), Ask(trials, 7)
    one, other = (SAMPLERS[name].make(of, {}).propose(known, ask) for name in ("auto", picked))
    assert [each.params for each in one] == [each.params for each in other]
    pick = [pick for pick in picks(of, metrics) if pick.first <= trials][-1]
    assert picked in pick.samplers
    assert str(parameters) in picks(of, metrics)[0].reason or metrics > 1


def test_of_trials_asked_for_together_each_proposes_its_part() -> None:
    of = cube(3)
    known = seen(of, ALONE)
    found = SAMPLERS["auto"].make(of, {}).propose(known, Ask(ALONE, 7, count=4))
    points = [tuple(each.params.values()) for each in found]
    assert len(set(points)) == 4
    gp = SAMPLERS["gp"].make(of, {}).propose(known, Ask(ALONE, 7, count=2))
    assert [each for each in gp if each.params in [one.params for one in found]] == gp
