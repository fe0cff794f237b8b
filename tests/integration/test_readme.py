"""What the README says is so: settings, commands, addresses, and code that runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from fastapi.testclient import TestClient

from benchmarks import claim_tables
from hpo_service import catalog, client, protocol
from hpo_service.app import create_app
from hpo_service.cli.commands import app
from hpo_service.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TEXTS = README + (ROOT / "CONTRIBUTING.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", TEXTS, re.MULTILINE | re.DOTALL)


@pytest.fixture
def http(tmp_path: Path) -> TestClient:
    return TestClient(create_app(Settings(data_dir=tmp_path)))


def test_the_table_of_settings_is_complete_and_true() -> None:
    rows = re.findall(r"^\| `HPO_(\w+)` \| (?:`(.*)`)? ?\| (.*) \|$", README, re.MULTILINE)
    assert rows == [
        (
            name.upper(),
            "" if field.default is None else str(field.default),
            field.description,
        )
        for name, field in Settings.model_fields.items()
    ]


def test_the_tables_of_methods_and_metrics_are_complete() -> None:
    named = re.findall(r"^\| ([^|]*) \|.*\|$", README, re.MULTILINE)
    metrics = [name for cell in named for name in re.findall(r"`(\w+)`", cell)]
    assert set(catalog.METRICS) <= set(metrics)
    methods = re.findall(r"^\| `(\w+)`: ", README, re.MULTILINE)
    assert sorted(methods) == sorted(get_args(protocol.ValidationMethod))


def test_the_tables_of_claims_are_those_of_the_kept_results() -> None:
    kept = (ROOT / "benchmarks/results/claims.jsonl").read_text()
    for table in claim_tables.of(kept).split("\n\n"):
        assert table.strip() in README


def test_the_study_for_curl_is_taken(http: TestClient) -> None:
    (shown,) = re.findall(r"curl --json '(.*?)' http://127.0.0.1:8000(\S+)", README, re.DOTALL)
    with http:
        answer = http.post(shown[1], json=json.loads(shown[0]))
    assert answer.status_code == 201, answer.text


def test_the_python_code_runs(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "close", lambda: None)
    monkeypatch.setattr(client, "_connect", lambda _url: http)
    (code,) = (block for block in blocks("python") if "Client(" in block)
    with http:
        exec(compile(code, "README.md", "exec"), {})
        made = protocol.Trials.model_validate_json(http.get("/v1/studies/wine/trials").content)
    default, *params = [trial.params for trial in made.trials]
    assert default["optimizer"] == "adam"
    assert params == [{"optimizer": "sgd", "learning_rate@sgd": 0.05}]


def test_every_command_shown_exists() -> None:
    lines = re.findall(r"^\$ (?:\w+=\S+ )*(hpo|make) (.*)$", "\n".join(blocks("console")), re.M)
    assert lines
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for program, rest in lines:
        words = rest.partition("#")[0].split()
        if program == "make":
            assert words[0] in targets
            continue
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        options = {option for param in command.params for option in param.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_every_address_shown_exists(http: TestClient) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    shown = re.findall(r"http://127\.0\.0\.1:8000(/v1/\S+)", README)
    known = [re.sub(r"\{\w+\}", "[^/]+", path) for path in paths]
    for address in shown:
        assert any(re.fullmatch(path, address) for path in known), address


def test_every_file_named_exists() -> None:
    for path in re.findall(r"`((?:hpo_service|workers|migrations|tests)/[\w/.]*)`", TEXTS):
        assert (ROOT / path).exists(), path
