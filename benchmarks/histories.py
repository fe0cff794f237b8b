"""Studies that have come far: databases with any number of finished trials, written in bulk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import distribution_to_json
from sqlalchemy import insert

from benchmarks.contention import SPACE
from hpo_service import protocol, schema, space
from hpo_service.constraints import cube_of
from hpo_service.cube import Cube
from hpo_service.database import Database
from hpo_service.samplers.grid import Grid, GridOptions
from hpo_service.samplers.independent import anywhere
from hpo_service.seen import BASIS
from hpo_service.tables import Study, Trial

NOW = datetime(2026, 1, 1, tzinfo=UTC)
# Of each range: with the choices not far below the most points that a grid may have.
GRID_POINTS = 96_000
POINTS = {
    "hidden_layers": 5, "hidden_units": 4, "dropout": 2, "learning_rate": 5, "momentum": 2,
    "weight_decay": 4,
}  # fmt: skip
OPTIONS: Mapping[str, Mapping[str, Any]] = {"grid": {"points": POINTS}}
# As many as workers are at work, of which a proposal notes the numbers.
PENDING = 16
ROWS_AT_ONCE = 5_000


@contextmanager
def sqlite() -> Iterator[Database]:
    """An empty database of its own in a file that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'hpo.db'}")
        schema.upgrade(database)
        try:
            yield database
        finally:
            database.close()


def spec_of(sampler: str) -> protocol.StudySpec:
    """An external study over `SPACE` without end."""
    return protocol.StudySpec.model_validate(
        {
            "name": sampler,
            "objective": {"kind": "external"},
            "search_space": SPACE,
            "sampler": {"name": sampler, **OPTIONS.get(sampler, {})},
            "budget": {"trials": 1_000_000},
        }
    )


def study(database: Database, sampler: str, trials: int) -> int:
    """Store a study with so many finished trials; its id."""
    spec = spec_of(sampler)
    with database.write() as (session, now):
        row = Study(
            name=f"{sampler}-{trials}",
            kind="external",
            spec=spec.model_dump(mode="json"),
            directions=["minimize"],
            state="running",
            seed=spec.seed,
            n_trials=trials,
            created_at=now,
        )
        session.add(row)
        session.flush()
        rows = _rows(spec, row.id, trials)
        while some := list(islice(rows, ROWS_AT_ONCE)):
            session.execute(insert(Trial), some)
        return row.id


def settings(sampler: str, trials: int) -> Iterator[space.Params]:
    """Where the finished trials were: points of the grid for a grid, anywhere for others."""
    cube = _cube()
    if sampler == "grid":
        points = Grid(cube.space, GridOptions(points=POINTS), {})
        return (points.point(at) for at in range(trials))
    nothing_fixed = np.full(len(cube.names), np.nan)
    rows = anywhere(cube, nothing_fixed, trials, np.random.default_rng(0))
    return (cube.params(row) for row in rows)


def value(params: space.Params) -> float:
    """What a trial came to, best near the middle of the space."""
    cube = _cube()
    return float(((cube.positions(cube.rows([params])) - 0.4) ** 2).sum())


@cache
def _cube() -> Cube:
    return cube_of(spec_of("random"))


def _rows(spec: protocol.StudySpec, study_id: int, trials: int) -> Iterator[dict[str, Any]]:
    texts = {name: distribution_to_json(d) for name, d in _cube().distributions.items()}
    for number, params in enumerate(settings(spec.sampler.name, trials)):
        pending = list(range(max(0, number - PENDING), number))
        basis = {"seen": number, "pending": pending, "count": 1, "place": 0}
        yield {
            "study_id": study_id,
            "kind": "search",
            "number": number,
            "state": "complete",
            "params": params,
            "distributions": texts,
            "values": [value(params)],
            "system_attrs": {BASIS: basis},
            "attempt": 1,
            "created_at": NOW,
            "started_at": NOW,
            "ended_at": NOW,
        }
