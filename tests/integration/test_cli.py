"""The command `hpo` against a server in process."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import CliRunner, Result

from hpo_service.app import create_app
from hpo_service.cli import frame
from hpo_service.cli.commands import app
from hpo_service.client import Client
from hpo_service.settings import Settings
from workers import __main__ as worker

Hpo = Callable[..., Result]
CREATE = ("study", "create", "--model", "mlp", "--dataset", "iris", "--trials", "3")


@pytest.fixture
def hpo(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hpo]:
    """Runs a command as a shell would, but talking to an application in process."""
    settings = Settings(data_dir=tmp_path / "data", database_url=sqlite_url)
    with TestClient(create_app(settings)) as http:
        monkeypatch.setattr(http, "close", lambda: None)
        monkeypatch.setattr(frame, "Client", lambda url, token: Client(url, token, http))
        yield run


def run(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=stdin, prog_name="hpo")


def done(result: Result) -> str:
    """What a command printed, having succeeded."""
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(result: Result, code: int = 1) -> str:
    """The one line a command left on stderr, having failed."""
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def commands() -> list[tuple[str, ...]]:
    """All commands and groups, as the words that name them."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from below(child, (*words, name))

    return list(below(typer.main.get_command(app), ()))


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...]) -> None:
    text = done(run(*words, "--help"))
    assert f"Usage: {' '.join(('hpo', *words))}" in " ".join(text.split())
    assert "Example: hpo" in text or "COMMAND" in text


def test_called_without_a_command_it_shows_what_there_is() -> None:
    assert "study" in done(run())
    assert "export" in done(run("study"))


def test_a_study_from_options_to_its_end(hpo: Hpo, tmp_path: Path) -> None:
    assert "Created study flowers" in done(hpo(*CREATE, "--name", "flowers", "-p", "epochs=3"))
    assert "flowers" in done(hpo("study", "list"))
    done(hpo("trial", "add", "flowers", "-p", "learning_rate=0.01", "-p", "optimizer=adam"))
    default, trial = json.loads(done(hpo("study", "export", "flowers", "--format", "json")))
    assert default["params"]["optimizer"] == "adam"
    assert trial["params"] == {"learning_rate@adaptive": 0.01, "optimizer": "adam"}

    assert "paused" in done(hpo("study", "pause", "flowers"))
    assert "running" in done(hpo("study", "resume", "flowers"))
    table = tmp_path / "trials.csv"
    done(hpo("study", "export", "flowers", "--output", str(table)))
    assert table.read_text().startswith("number,")

    assert "2 given by hand" in done(hpo("study", "replay", "flowers"))
    assert "flowers" in done(hpo("study", "show", "flowers"))
    assert "--yes" in failed(hpo("study", "delete", "flowers"))
    done(hpo("study", "delete", "flowers", "--yes"))
    assert "flowers" not in done(hpo("study", "list"))


def test_options_overrule_a_file(hpo: Hpo, tmp_path: Path) -> None:
    spec = {
        "name": "from-file",
        "objective": {"kind": "train", "model": "mlp", "dataset": "wine"},
        "budget": {"trials": 3},
    }
    path = tmp_path / "study.json"
    path.write_text(json.dumps(spec))
    done(hpo("study", "create", str(path), "--seed", "7", "--folds", "3"))
    done(hpo("study", "create", "-", "--name", "from-stdin", stdin=path.read_text()))
    client = frame.connect("http://testserver", "")
    stored = client.study("from-file")
    assert (stored.seed, client.study("from-stdin").seed) == (7, 0)
    assert stored.spec is not None
    assert stored.spec.objective.validation.folds == 3  # type: ignore[union-attr]


def test_a_study_is_watched_to_its_end(hpo: Hpo) -> None:
    spec = {
        "name": "outside",
        "objective": {"kind": "external"},
        "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
        "budget": {"trials": 3},
    }
    done(hpo("study", "create", "-", stdin=json.dumps(spec)))
    done(hpo("study", "stop", "outside"))
    assert "outside  0/3 trials  finished (user)" in done(hpo("study", "watch", "outside"))
    assert "Nothing to watch" in done(hpo("study", "watch"))


def test_a_nested_cross_validation_is_made_whole_or_not_at_all(hpo: Hpo, tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    objective = {"kind": "train", "model": "mlp", "dataset": "wine"}
    path.write_text(json.dumps({"name": "w", "objective": objective, "budget": {"trials": 3}}))
    done(hpo(*CREATE, "--name", "w-outer-2"))
    assert "w-outer-2" in failed(hpo("nested", "create", str(path), "--outer-folds", "3"))
    assert "w-outer-0" not in done(hpo("study", "list"))

    done(hpo("study", "delete", "w-outer-2", "--yes"))
    said = done(hpo("nested", "create", str(path), "--outer-folds", "3"))
    assert "w-outer-0, w-outer-1, w-outer-2" in " ".join(said.split())
    assert "w-outer-0 has no held-out score: it is running" in failed(hpo("nested", "show", "w"))
    done(hpo("study", "delete", "w-outer-1", "--yes"))
    assert "no study 'w-outer-1'" in failed(hpo("nested", "show", "w"))


def test_a_data_set_of_ones_own(hpo: Hpo, tmp_path: Path) -> None:
    listed = done(hpo("dataset", "list"))
    assert re.search(r"digits +classification +1797 +image 1x8x8 +built in", listed)
    assert re.search(r"linnerud +regression +20 +3 columns +built in", listed)
    rows = "\n".join(f"{i % 7},{'ab'[i % 2]},{'yes' if i % 3 else 'no'}" for i in range(60))
    path = tmp_path / "mine.csv"
    path.write_text(f"size,kind,bought\n{rows}\n")
    assert "mine" in done(hpo("dataset", "add", str(path), "--target", "bought"))
    assert "price" in failed(hpo("dataset", "add", str(path), "--target", "price", "--name", "b"))
    assert "mine" in done(hpo("dataset", "list"))


def test_a_folder_of_images_is_packed_and_sent(hpo: Hpo, tmp_path: Path) -> None:
    for at in range(24):
        path = tmp_path / "pets" / ("cat" if at % 2 else "dog") / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (5, 4), 10 * at).save(path)
    said = done(hpo("dataset", "add", str(tmp_path / "pets"), "--size", "6x7"))
    assert "24 images of 2 classes, 6x7 pixels, grey." in said
    assert re.search(r"pets +classification +24 +image 1x6x7 +uploaded", said)
    assert "HEIGHTxWIDTH" in failed(hpo("dataset", "add", str(tmp_path), "--size", "big"), 2)
    (tmp_path / "empty").mkdir()
    assert "has no images" in failed(hpo("dataset", "add", str(tmp_path / "empty")))


def test_options_say_what_the_columns_of_a_file_are(hpo: Hpo, tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    lines = [f"p{i // 2},{i % 2},{i % 7},{i % 5},{'ab'[i // 2 % 2]}" for i in range(80)]
    path.write_text("\n".join(["who,day,pulse,note,ill", *lines]))
    options = ["--target", "ill", "--id", "who", "--time", "day", "--drop", "note"]
    said = done(hpo("dataset", "add", str(path), *options))
    assert re.search(r"visits +classification +40 +sequence 2x1 +uploaded", said)
    assert "time: " in failed(hpo("dataset", "add", str(path), "--target", "ill", "--id", "who"))


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["study", "show", "nobody"], 1, "nobody"),
        (["study", "create", "--name", "x"], 1, "objective.model"),
        ([*CREATE, "--name", "a/b"], 1, "name: "),
        ([*CREATE, "--name", "x", "--sampler", "magic"], 1, "sampler.name"),
        ([*CREATE, "--name", "x", "-p", "epochs=-1"], 1, "params.epochs"),
        ([*CREATE, "--name", "x", "-p", "epochs"], 2, "NAME=VALUE"),
        (["trial", "add", "nobody"], 1, "nobody"),
        (["dataset", "add", "missing.csv", "--target", "y"], 2, "missing.csv"),
        (["study", "create", "missing.json"], 2, "missing.json"),
        (["study", "list", "--wrong"], 2, "--wrong"),
        (["sutdy"], 2, "Did you mean 'study'?"),
        (["study", "show"], 2, "hpo study show --help"),
    ],
)
def test_a_failure_is_one_line(hpo: Hpo, words: list[str], code: int, text: str) -> None:
    assert text in failed(hpo(*words), code)


def test_what_is_no_json_is_said_so(hpo: Hpo) -> None:
    assert "is not JSON" in failed(hpo("study", "create", "-", stdin="{"))
    assert "one JSON object" in failed(hpo("study", "create", "-", stdin="[]"))


def test_without_a_server_it_says_how_to_start_one() -> None:
    assert "hpo serve" in failed(run("study", "list", "--url", "http://127.0.0.1:9"))
    assert "http://host:port" in failed(run("study", "list", "--url", "nonsense"))


def test_a_server_with_a_token_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    http = TestClient(create_app(Settings(data_dir=tmp_path, token="secret")))
    monkeypatch.setattr(frame, "Client", lambda url, token: Client(url, token, http))
    assert "HPO_TOKEN" in failed(run("study", "list", "--token", "guess"))


def test_a_setting_that_is_wrong_is_one_line(tmp_path: Path) -> None:
    assert "HPO_TOKEN must be set" in failed(run("serve", "--host", "0.0.0.0"))
    assert "HPO_DATABASE_URL" in failed(run("db", "upgrade", "--database-url", "mysql://x/y"))


def test_upgrading_makes_the_tables(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    for _ in range(2):
        assert "current" in done(run("db", "upgrade", "--database-url", url))


@pytest.mark.parametrize(
    ("words", "pack", "refill"),
    [
        ((), 1, True),
        (("--pack", "8"), 8, True),
        (("--pack", "8", "--no-refill", "--alike", "4"), 8, False),
    ],
)
def test_a_worker_gets_its_options(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], pack: int, refill: bool
) -> None:
    lines: list[list[str]] = []
    monkeypatch.setattr("os.execve", lambda _program, line, _environment: lines.append(line))
    done(run("worker", "--device", "cuda:1", *words))
    given = worker._parser().parse_args(lines[0][4:])
    assert (given.device, given.pack, given.refill) == ("cuda:1", pack, refill)
    assert given.alike == (4 if "--alike" in words else 1)


def test_a_worker_gets_a_function_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[list[str]] = []
    monkeypatch.setattr("os.execve", lambda _program, line, _environment: lines.append(line))
    done(run("worker", "--objective", "boosting=my_study:objective"))
    given = worker._parser().parse_args(lines[0][4:])
    assert worker._objective(given) == {
        "objective": "workers.custom:load",
        "function": "my_study:objective",
        "objectives": ("custom:boosting",),
    }


@pytest.mark.parametrize("command", ["worker", "up"])
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--objective", "my_study.py"), "my_study.py is a file: name its module"),
        (("--objective", "my_study"), "write MODULE:FUNCTION"),
        (("--objective", "a:b", "--pack", "2"), "one by one: start more workers"),
    ],
)
def test_what_names_no_function_of_ones_own_is_refused(
    command: str, words: tuple[str, ...], text: str
) -> None:
    assert text in failed(run(command, *words), 2)


def test_a_study_of_ones_own_function_says_which_worker_it_waits_for(hpo: Hpo) -> None:
    objective = {"kind": "custom", "name": "my_study:objective", "directions": ["maximize"]}
    spec = {
        "name": "mine",
        "objective": objective,
        "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
        "budget": {"trials": 3},
    }
    created = done(hpo("study", "create", "-", stdin=json.dumps(spec)))
    assert "wait for workers: hpo worker --objective my_study:objective" in created
    unknown = objective | {"name": "my study"}
    wrong = hpo("study", "create", "-", stdin=json.dumps(spec | {"objective": unknown}))
    assert "objective.name" in failed(wrong)
    del objective["directions"]
    wrong = hpo("study", "create", "-", stdin=json.dumps(spec))
    assert "objective.directions: Field required" in failed(wrong)
