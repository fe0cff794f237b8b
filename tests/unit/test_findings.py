"""The verdict from what was said of unseen rows, whatever splits them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpo_service import protocol
from tests import training
from workers import findings

FOLDS = {"winner": [0.9, 0.91, 0.92, 0.93, 0.94], "ridge": [0.5, 0.52, 0.5, 0.53, 0.52]}


def said(folds: list[float], repeats: int, **of: Any) -> findings.Said:
    """A confirm row with its scores on the fresh folds."""
    known = {"kind": "confirm", "number": None, "model": None, "values": [0.0], "sha256": "a" * 64}
    made = protocol.OutOfFold.model_validate(known | {"folds": [folds]} | of)
    return findings.Said(made, np.zeros((repeats, 43, 1)))


@pytest.mark.parametrize(("method", "repeats"), [("k_fold", 1), ("hold_out", 5)])
def test_winner_and_baseline_are_compared_on_the_folds_of_any_method(
    method: str, repeats: int
) -> None:
    data = training.small("regression")
    setting = protocol.ModelSetting(
        name="winner", model="mlp", params={}, epochs=1, seed=0, number=3, values=[0.9]
    )
    lease = training.lease("mlp", kind="final", refits=[setting], metrics=["r2"])
    validation = protocol.Validation.model_validate({"method": method})
    objective = lease.objective.model_copy(update={"validation": validation})
    lease = lease.model_copy(update={"objective": objective})
    rows = [
        said(FOLDS["winner"], repeats, number=3),
        said(FOLDS["ridge"], repeats, model="ridge"),
    ]
    found = findings.of_winner(rows, data, lease, "r2", [])
    assert found is not None
    assert (found.answer, found.baseline) == ("better", "ridge")
    assert found.difference == pytest.approx(0.406)
    # A fold scores a fifth of the rows either way.
    assert found.detectable == pytest.approx(0.0387, abs=0.02)
