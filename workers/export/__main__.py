"""`python -m workers.export MODEL OUT`: a stored model as an ONNX file.

What fails ends as one line on stderr and exit code 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hpo_service import errors
from workers import models


def main(arguments: list[str] | None = None) -> int:
    """Export; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.export", description=__doc__)
    for name in ("model", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args(arguments)
    try:
        from workers.export.model import export  # needs the extra `onnx`
    except ModuleNotFoundError as error:
        sys.stderr.write(f"{error}: pip install 'hpo-service[onnx]'\n")
        return 1
    try:
        given.out.write_bytes(export(models.load(given.model)))
    except (errors.HpoError, OSError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
