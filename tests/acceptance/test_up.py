"""`hpo up` and `hpo demo` as real processes: what they start, they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import PATIENCE, wait_for

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `hpo` with a mark in its environment, by which all it starts can be found."""
    started = []

    def hpo(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "hpo_service.cli", *words],
            env={**os.environ, "MARK": str(tmp_path), "HPO_CACHE_DIR": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield hpo
    for pid in running(tmp_path):
        os.kill(pid, signal.SIGKILL)
    for process in started:
        process.communicate()


def running(mark: Path, words: str = "") -> list[int]:
    """The processes that carry the mark and whose command line has these words."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if f"MARK={mark}\0".encode() not in (folder / "environ").read_bytes():
                continue
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            zombie = ") Z " in (folder / "stat").read_text()
        except OSError:
            continue
        if words in line and not zombie:
            found.append(int(folder.name))
    return found


def up(start: Start, folder: Path, workers: int) -> subprocess.Popen[str]:
    """A server and its workers, all of them running."""
    options = ("--port", "0", "--data-dir", str(folder / "data"), "--device", "cpu")
    process = start("up", "--workers", str(workers), *options)
    assert process.stdout is not None
    assert any("Ctrl-C ends all" in line for line in process.stdout)
    wait_for(lambda: len(running(folder, "-m workers --device")) == workers)
    return process


def test_up_replaces_a_worker_that_dies_and_leaves_nothing_running(
    start: Start, tmp_path: Path
) -> None:
    process = up(start, tmp_path, workers=2)
    first = running(tmp_path, "-m workers --device")
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: set(running(tmp_path, "-m workers --device")) - set(first))
    output = ended(process, signal.SIGINT)
    assert re.search(r"Worker \d ended \(-9\)", output)
    assert running(tmp_path) == []


def test_up_ends_when_it_is_told_to(start: Start, tmp_path: Path) -> None:
    process = up(start, tmp_path, workers=1)
    ended(process, signal.SIGTERM)
    assert running(tmp_path) == []


def ended(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """What it said, having been ended by this signal."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number, output
    assert "Traceback" not in output
    return output


def test_up_ends_with_its_server(start: Start, tmp_path: Path) -> None:
    process = up(start, tmp_path, workers=1)
    (server,) = running(tmp_path, "hpo_service.cli serve")
    os.kill(server, signal.SIGKILL)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "Error: The server ended" in output
    assert running(tmp_path) == []


def test_a_second_server_on_the_same_file_is_refused_in_one_line(
    start: Start, tmp_path: Path
) -> None:
    up(start, tmp_path, workers=0)
    data = tmp_path / "data"
    second = start("serve", "--port", "0", "--data-dir", str(data))
    output, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 1
    assert re.fullmatch(r"Error: Another server uses .*\n", output)


def test_demo_shows_the_way_to_a_score(start: Start, tmp_path: Path) -> None:
    process = start("demo", "--trials", "3", "--data-dir", str(tmp_path / "demo"))
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    for words in ("3/3 trials", "Leaderboard", "Best hyperparameters", "gradient"):
        assert words in output
    # On the folds of the search, perhaps on fresh ones, and on held-out rows.
    assert re.search(
        r"mlp \(winner.* 0\.\d{4} ± 0\.\d{4} .* 0\.\d{4} +0\.\d{4} to 0\.\d{4}", output
    )
    assert running(tmp_path) == []
