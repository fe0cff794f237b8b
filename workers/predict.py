"""`python -m workers.predict MODEL ROWS OUT`: what a stored model says of the rows of a data blob.

OUT becomes a safetensors file with `prediction`: probabilities (rows, classes), or (rows, steps,
classes), or numbers (rows, targets). What fails ends as one line on stderr and exit code 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import save_file

from hpo_service import errors
from workers import models
from workers.data import dataset


def main(arguments: list[str] | None = None) -> int:
    """Predict; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.predict", description=__doc__)
    for name in ("model", "rows", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args(arguments)
    try:
        prediction = models.load(given.model).predict(dataset.read(given.rows))
        save_file({"prediction": prediction}, given.out)
    except (errors.HpoError, OSError, SafetensorError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
