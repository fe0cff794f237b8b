"""One result of a benchmark as one JSON line."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache


def emit(
    bench: str,
    case: str,
    unit: str,
    ours: float,
    *,
    peer: float | None = None,
    peer_name: str | None = None,
    target: str | None = None,
    met: bool | None = None,
    more: Mapping[str, object] | None = None,
) -> None:
    """Print the line; `ratio` is peer / ours: how many times less we need of the unit.

    `more`: what a reader needs to repeat or to judge it, at the end of the line.
    """
    line = {
        "bench": bench,
        "case": case,
        "unit": unit,
        "ours": round(ours, 6),
        "peer": None if peer is None else round(peer, 6),
        "peer_name": peer_name,
        "ratio": None if peer is None or ours == 0 else round(peer / ours, 3),
        "target": target,
        "met": met,
        "machine": machine(),
        "commit": commit(),
        **(more or {}),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


@cache
def machine() -> str:
    """Processor, number of cores and Python, as far as they can be told."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}"


@cache
def commit() -> str:
    """The commit that is checked out, or `unknown`."""
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"
