"""Who may import whom, and what importing a package may load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WEB = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "psycopg"}
NUMERIC = {"torch", "numpy", "scipy", "pandas", "sklearn", "optuna", "matplotlib"}


def test_import_rules() -> None:
    """The contracts under `importlinter` in pyproject.toml hold."""
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("hpo_service.app", {"torch", "pandas", "sklearn", "matplotlib", "workers"}),
        ("hpo_service.cli.commands", WEB | NUMERIC | {"workers"}),
        ("hpo_service.client", WEB | NUMERIC | {"workers"}),
        ("hpo_service.catalog", WEB | NUMERIC | {"workers"}),
        ("workers.agent", WEB | NUMERIC),
        ("workers.__main__", WEB | NUMERIC),
        ("workers.objective", WEB | {"optuna", "matplotlib"}),
    ],
)
def test_what_an_import_loads(module: str, forbidden: set[str]) -> None:
    """Starts stay quick, and a machine that runs workers alone could do without the rest."""
    code = f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in json.loads(run.stdout)}
    assert not loaded & forbidden
