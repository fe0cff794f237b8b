"""Where a worker keeps what it may need again: data, spools, what it measured of the machine."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "HPO_CACHE_DIR"
DEFAULT = "~/.cache/hpo-service"


def root(path: str | None = None) -> Path:
    """The folder for all that a worker keeps, made for its owner alone.

    `path`, else `HPO_CACHE_DIR`, else `~/.cache/hpo-service`.
    """
    found = Path(path or os.environ.get(VARIABLE) or DEFAULT).expanduser()
    found.mkdir(mode=0o700, parents=True, exist_ok=True)
    return found
