"""`hpo predict`: what a study's model says of new rows."""

from __future__ import annotations

import csv
import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hpo_service import errors, protocol
from hpo_service.cli.frame import DEFAULT_URL, Token, Url, connect
from hpo_service.cli.server import run_worker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hpo_service.datasets.apply import Applied, Key
    from hpo_service.datasets.table import Table

    Floats = NDArray[np.float64]

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A file that `hpo study files` saved, or a study's name."),
]


def predict(
    model: Model,
    data: Annotated[
        Path,
        typer.Argument(
            exists=True, metavar="DATA", help="A file like the data set's, or a folder of images."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "--out", "-o", help="File to write. [default: screen]"),
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Predict each row of a file with the model that a study left.

    Columns are found by name, whatever their order. The result is a CSV with a line for each row,
    each series or each image: the predicted class and the probability of each, or the predicted
    number. If the target is there too, the score is printed.
    """
    with model_file(model, url, token) as file:
        card = read_card(file)
        table, notes, key = read_rows(data, card.contents)
        prediction = predicted(file, table)
    text = as_csv(prediction, card.contents, key)
    # On a screen or in a pipe the predictions stand alone.
    out = Console(stderr=output is None, highlight=False, soft_wrap=True)
    for note in [*notes, *scores(prediction, table)]:
        out.print(note, markup=False)
    if output:
        output.write_text(text, encoding="utf-8")
        count = len(prediction)
        out.print(f"Wrote {output}: {count:,} prediction{'s' * (count != 1)}.", markup=False)
    else:
        sys.stdout.write(text)


@contextmanager
def model_file(model: str, url: str, token: str) -> Iterator[Path]:
    """The file itself, or one with the model of the study of that name, for a while."""
    if Path(model).is_file():
        yield Path(model)
        return
    try:
        with connect(url, token) as client:
            content = client.model(model)
    except (errors.NotFound, errors.Unreachable) as error:
        message = f"There is no file {model!r}, so it was taken for a study. {error.message}"
        raise type(error)(message) from None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model"
        file.write_bytes(content)
        yield file


def read_card(file: Path) -> protocol.ModelCard:
    """What the model says of itself; `BadRequest` where the file is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return protocol.ModelCard.of(file.name, opened.metadata())
    except SafetensorError as error:
        raise errors.BadRequest(f"{file.name} is no model, or not all of one: {error}.") from None


def read_rows(data: Path, schema: protocol.DatasetSchema) -> Applied:
    """The file's rows as the model reads them; of a folder, its images in the model's size."""
    # Loaded here: numpy and pandas are slow to load.
    from hpo_service.datasets import folder
    from hpo_service.datasets.apply import apply

    if not data.is_dir():
        return apply(data.read_bytes(), schema)
    if schema.kind != "image" or schema.shape is None:
        raise errors.BadRequest(f"{data} is a folder, and the model reads no images.")
    channels, height, width = schema.shape
    packed = folder.pack(data, (height, width), channels)
    files = [str(file.relative_to(data)) for file in packed.files]
    return apply(packed.data, schema)._replace(key=("file", files))


def predicted(model: Path, table: Table) -> Floats:
    """What the model says of each row, told by a process that has PyTorch."""
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder) / "rows", Path(folder) / "out"
        rows.write_bytes(table.to_bytes())
        run_worker("workers.predict", str(model), str(rows), str(out))
        return load_file(out)["prediction"]


def as_csv(prediction: Floats, schema: protocol.DatasetSchema, key: Key = None) -> str:
    """A header, then a line for each row, in the order of the rows; `key` comes first in it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if schema.classes:
        if prediction.ndim > 2:
            raise errors.BadRequest(
                "The model tells a class for each step of a row, which a CSV has no place for: "
                "use `workers.models.load` in Python."
            )
        header = ["prediction", *(f"probability_{name}" for name in schema.classes)]
        best = [schema.classes[code] for code in prediction.argmax(1).tolist()]
        lines = [
            [name, *(f"{each:.6g}" for each in row)]
            for name, row in zip(best, prediction.tolist(), strict=True)
        ]
    else:
        several = len(schema.target) > 1
        header = [f"prediction_{each}" if several else "prediction" for each in schema.target]
        lines = [[f"{each:.9g}" for each in row] for row in prediction.tolist()]
    name, values = key or ("", [])
    writer.writerow([name, *header] if key else header)
    writer.writerows(
        [[value, *line] for value, line in zip(values, lines, strict=True)] if key else lines
    )
    return out.getvalue()


def scores(prediction: Floats, table: Table) -> list[str]:
    """A sentence on how right the predictions are, where any row has a target."""
    import numpy as np

    schema = table.schema
    target = table.target.reshape(len(table.target), -1)
    known = (target >= 0).all(1) if schema.classes else ~np.isnan(target).any(1)
    rows = int(known.sum())
    if not rows:
        return []
    of = f"on the {rows:,} rows with a known {' and '.join(schema.target)}"
    if schema.classes:
        right = float((prediction[known].argmax(1) == target[known, 0]).mean())
        return [f"Accuracy {of}: {right:.4f}"]
    from sklearn.metrics import r2_score

    # R2 compares with the mean of the rows, which one row cannot.
    return [f"R2 {of}: {r2_score(target[known], prediction[known]):.4f}"] if rows > 1 else []
