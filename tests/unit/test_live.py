"""The live view where there is no terminal, and a server that is away for a moment."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import Any, cast

import pytest
from rich.console import Console

from hpo_service import errors, protocol
from hpo_service.cli import live
from hpo_service.client import Client


class Played:
    """A client whose study goes through these states, an error being raised."""

    def __init__(self, *answers: protocol.Study | errors.HpoError) -> None:
        self.answers = list(answers)

    def study(self, _name: str) -> protocol.Study:
        answer = self.answers.pop(0)
        if isinstance(answer, errors.HpoError):
            raise answer
        return answer


def study(complete: int, state: str = "running", best: float | None = None) -> protocol.Study:
    found = [] if best is None else [protocol.Best(number=7, values=[best], params={})]
    return protocol.Study(
        id=1,
        name="digits",
        state=cast(Any, state),
        ended_by="budget" if state == "finished" else None,
        directions=["maximize"],
        n_trials=complete,
        budget_trials=4,
        counts=protocol.Counts(complete=complete, waiting=1),
        best=found,
        spec=None,
        seed=0,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        ended_at=None,
    )


def watched(*answers: protocol.Study | errors.HpoError) -> list[str]:
    """The lines shown while a study goes through these states."""
    out = StringIO()
    client = cast(Client, Played(*answers))
    live.watch(client, ["digits"], Console(file=out, width=80), pause=lambda _seconds: False)
    return out.getvalue().splitlines()


def test_a_line_where_there_is_news_and_one_at_the_end() -> None:
    lines = watched(study(0), study(0), study(2, best=0.5), study(4, "finished", best=0.75))
    assert lines == [
        "digits  0/4 trials",
        "digits  4/4 trials  best value 0.7500 (trial 7)  finished (budget)",
    ]


def test_a_server_that_is_away_for_a_moment_is_waited_for() -> None:
    assert len(watched(errors.Unreachable(), study(4, "finished"))) == 1


def test_a_server_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PATIENCE_SECONDS", -1.0)
    with pytest.raises(errors.Unreachable):
        watched(errors.Unreachable())


def test_a_study_that_was_deleted_is_an_error() -> None:
    with pytest.raises(errors.NotFound):
        watched(study(1), errors.NotFound())
