"""Data sets and files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpo_service.protocol.base import DataKind, Model, Task, Text


class Column(Model):
    """An input column; `categories` in the order of the codes stored for it."""

    name: Text
    kind: Literal["numeric", "categorical"]
    categories: list[str] = []


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
    [steps]: a text, `categorical` (rows, steps) codes into `symbols` (characters or words), -1
    after the end; `columns` is empty.
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
