"""The options of `hpo dataset add` and `hpo study create`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hpo_service import protocol

MORE = "Texts, series, images"
SCORE = "How settings are scored"


def _column(help_: str, panel: str | None = None, *names: str) -> Any:
    return typer.Option(*names, metavar="COLUMN", help=help_, rich_help_panel=panel)


def _more(help_: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(
        *names, metavar=metavar, help=help_, show_default=False, rich_help_panel=MORE
    )


def _score(help_: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(
        *names, metavar=metavar, help=help_, show_default=False, rich_help_panel=SCORE
    )


File = Annotated[
    Path, typer.Argument(exists=True, help="CSV, Parquet or NPZ; or a folder of images.")
]
Target = Annotated[
    str | None,
    typer.Option(help="The column to predict.", show_default="y in an NPZ, the folders"),
]
DatasetName = Annotated[
    str | None, typer.Option(help="Name of the data set.", show_default="the file's")
]
OfTask = Annotated[
    protocol.Task | None,
    typer.Option(help="Unset: told from the target's values.", show_default=False),
]
Numeric = Annotated[list[str], _column("Numbers; other values are missing.")]
Categorical = Annotated[list[str], _column("Categories, even where all are numbers.")]
Drop = Annotated[list[str], _column("Left out.")]
Weight = Annotated[str | None, _column("What a row counts.")]
OfGroup = Annotated[str | None, _column("Rows alike in it stay together.")]
OrderBy = Annotated[str | None, _column("The order of time: numbers or dates.")]
Test = Annotated[str | None, _column("1, true or test: held out from the search.")]
Text = Annotated[str | None, _column("A text in each row.", MORE)]
Characters = Annotated[bool, _more("Of a text, not words.", "--characters")]
Id = Annotated[str | None, _column("Which series a line is of.", MORE, "--id")]
Time = Annotated[str | None, _column("The order of its lines.", MORE)]
Forecast = Annotated[
    int | None, _more("The target's next value, from so many rows.", metavar="ROWS")
]
Kind = Annotated[Literal["table", "sequence", "image"] | None, _more("What a row of an NPZ is.")]
ImageSize = Annotated[str | None, _more("Of images in a folder: 32x32.", metavar="HxW")]
Grey = Annotated[bool, _more("Images in a folder, no colours.", "--grey")]

Method = Annotated[
    protocol.ValidationMethod | None,
    _score("Unset: k_fold, or time_series where rows have an order."),
]
Folds = Annotated[int | None, _score("Of k_fold and time_series.", metavar="N")]
Repeats = Annotated[int | None, _score("Of k_fold and hold_out, drawn anew.", metavar="N")]
Share = Annotated[float | None, _score("Of hold_out: the rows that score.", metavar="SHARE")]
Stratify = Annotated[bool | None, _score("Classes as frequent in each fold.")]
Holdout = Annotated[float | None, _score("Rows the search never sees.", metavar="SHARE")]
Baseline = Annotated[
    list[str] | None,
    _score("Only this one; may be given several times. none: no baselines.", metavar="FAMILY"),
]
Select = Annotated[
    Literal["fresh_folds", "one_standard_error"] | None, _score("How the winner is chosen.")
]
Serve = Annotated[protocol.Serve | None, _score("What the study's model is made of.")]
Seconds = Annotated[float | None, typer.Option(help="Budget: from the start of the first trial.")]
GoodEnough = Annotated[
    float | None, typer.Option("--target", help="A value that is good enough: ends the search.")
]
NoGain = Annotated[
    bool,
    typer.Option("--no-gain", help="End when more trials would gain less than the noise."),
]
