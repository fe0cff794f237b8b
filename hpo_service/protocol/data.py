"""Data sets and files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from hpo_service.protocol.base import DataKind, Model, Name, Task, Text, plain_text

ColumnName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1000, strip_whitespace=True),
    AfterValidator(plain_text),
]
ColumnNames = Annotated[list[ColumnName], Field(max_length=5_000)]
Symbols = Literal["words", "characters"]


class Upload(Model):
    """What a file of a user's own is to be, beside its bytes: the query of `POST /v1/datasets`.

    Columns are named as in the file; those of an NPZ file are its arrays.
    """

    name: Annotated[Name, Field(description="What studies will call it.")]
    target: Annotated[
        ColumnName | None,
        Field(description="The column to predict. Needed, but in an NPZ file: unset, `y`."),
    ] = None
    task: Annotated[Task | None, Field(description="Unset: told from the target's values.")] = None
    format: Annotated[
        Literal["csv", "parquet", "npz"] | None, Field(description="Unset: told from the bytes.")
    ] = None
    kind: Annotated[
        Literal["table", "sequence", "image"] | None,
        Field(
            description="What a row of an NPZ file's inputs is. Unset: of an array (rows, columns) "
            "a table's row, of (rows, steps, channels) a sequence, of four axes an image."
        ),
    ] = None
    text: Annotated[
        ColumnName | None, Field(description="The column of texts to learn from, from no other.")
    ] = None
    symbols: Annotated[Symbols, Field(description="What a text is made of.")] = "words"
    id: Annotated[
        ColumnName | None,
        Field(description="Long format: the lines with one value here are one series."),
    ] = None
    time: Annotated[
        ColumnName | None, Field(description="Long format: the order of the lines in a series.")
    ] = None
    forecast: Annotated[
        int | None,
        Field(
            ge=1,
            le=10_000,
            strict=False,
            description="Predict the target's next value from so many rows before it.",
        ),
    ] = None
    weight: Annotated[
        ColumnName | None, Field(description="What each row counts, above 0; no input.")
    ] = None
    group: Annotated[
        ColumnName | None, Field(description="Rows alike in it stay together; no input.")
    ] = None
    order_by: Annotated[
        ColumnName | None,
        Field(description="Numbers or dates: the rows stand in the order of time; no input."),
    ] = None
    test: Annotated[
        ColumnName | None,
        Field(description="1, true or test: a row of the official test part; no input."),
    ] = None
    numeric: Annotated[
        ColumnNames, Field(description="Columns to read as numbers: what is none is missing.")
    ] = []
    categorical: Annotated[ColumnNames, Field(description="Columns to read as categories.")] = []
    drop: Annotated[ColumnNames, Field(description="Columns to leave out.")] = []


class Column(Model):
    """An input column; `categories` in the order of the codes stored for it."""

    name: Text
    kind: Literal["numeric", "categorical"]
    categories: list[str] = []


class Origin(Model):
    """How the rows lay in the file they came from, where they are no plain table's rows.

    Series in long format: `id`, `time` and the `channels`. Windows to forecast from: the
    `channels`, the target first, and the `time` they were sorted by, if any. A text: its column
    and what it was split into.
    """

    id: Text | None = None
    time: Text | None = None
    channels: list[Text] = []
    text: Text | None = None
    symbols: Symbols | None = None


class DatasetSchema(Model):
    """What a data blob holds (a safetensors file, this schema as JSON in its metadata).

    Tensors: `numeric` float64 (rows, numeric columns), NaN where missing; `categorical` int32
    (rows, categorical columns), -1 where missing; `target` int64 class codes (rows,) for
    classification, float64 (rows,) or (rows, targets) for regression. Where the schema says so
    also, each (rows,): `weight` float64, what a row counts, above 0; `group` int64, rows of one
    group belong together; `test` uint8, 1 for the rows of an official test part.

    `shape` says what a row is:
    unset: a table;
    [channels, height, width]: an image, `numeric` (rows, channels * height * width), channel by
    channel;
    [steps, channels]: a sequence, `numeric` (rows, steps * channels), step by step; after the end
    of a shorter row NaN in all channels;
    [steps]: a text, `categorical` (rows, steps) codes into `symbols` (characters or words; an
    empty one stands for all others), -1 after the end; `columns` is empty.
    """

    task: Task
    rows: int
    columns: list[Column]
    target: list[str]
    classes: list[str] = []
    shape: list[int] | None = None
    symbols: Annotated[
        list[str], Field(description="Of a text: its alphabet, in the order of the codes.")
    ] = []
    per_step: Annotated[
        bool,
        Field(description="One class for each step: `target` (rows, steps), -1 where none is."),
    ] = False
    ordered: Annotated[bool, Field(description="The rows stand in the order of time.")] = False
    weighted: Annotated[bool, Field(description="The rows have weights.")] = False
    grouped: Annotated[bool, Field(description="The rows are in groups that stay together.")] = (
        False
    )
    tested: Annotated[bool, Field(description="Some rows are an official test part.")] = False
    origin: Annotated[
        Origin | None, Field(description="Of a file that was more than columns of a table.")
    ] = None

    @property
    def kind(self) -> DataKind:
        """What a row is, told by the length of `shape`."""
        kinds: dict[int, DataKind] = {0: "table", 1: "symbols", 2: "sequence", 3: "image"}
        return kinds[len(self.shape or [])]


class Dataset(Model):
    name: str
    builtin: bool
    description: str
    contents: DatasetSchema | None = None
    sha256: str | None = None
    warnings: list[str] = []


class Datasets(Model):
    datasets: list[Dataset]


class Artifact(Model):
    """A stored file; `step` says of which step a checkpoint holds the state."""

    name: str
    sha256: str
    size: int
    step: int | None = None


class Artifacts(Model):
    artifacts: list[Artifact]
