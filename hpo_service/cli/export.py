"""`hpo export`: a study's model for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpo_service.cli.frame import DEFAULT_URL, Token, Url, console
from hpo_service.cli.predict import Model, model_file, read_card
from hpo_service.cli.server import run_worker


def export(
    model: Model,
    output: Annotated[
        Path, typer.Argument(dir_okay=False, metavar="FILE", help="The ONNX file to write.")
    ],
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Write the model that a study left as ONNX, its preprocessing included.

    For perceptrons and for convolutional and recurrent networks. Needs the extra `onnx`.
    """
    with model_file(model, url, token) as file:
        card = read_card(file)
        run_worker("workers.export", str(file), str(output))
    console().print(f"Wrote {output}, of family {card.family}.", markup=False)
