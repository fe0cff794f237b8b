"""What all schemas are made of: names, numbers, states, the strict base class."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

MAX_INT = 2**63 - 1
MAX_LEASES = 64
MAX_NAME = 100
MAX_GRID_POINTS = 100_000

StudyState = Literal["running", "paused", "finishing", "finished"]
EndedBy = Literal[
    "budget", "space", "target", "time", "device_seconds", "epochs", "no_gain", "user"
]
TrialState = Literal["waiting", "running", "complete", "pruned", "fail", "cancelled"]
TrialKind = Literal["search", "baseline", "confirm", "final"]
Direction = Literal["minimize", "maximize"]
Task = Literal["classification", "regression"]
# A data set never asks for generation: its target is left aside.
StudyTask = Literal["classification", "regression", "generation"]
DataKind = Literal["table", "image", "sequence", "symbols"]
ValidationMethod = Literal["k_fold", "time_series", "hold_out", "leave_one_out"]
Action = Literal["continue", "prune", "stop", "lost"]
Fate = Literal["held", "stop", "lost"]

UNFINISHED: tuple[TrialState, ...] = ("waiting", "running")
TERMINAL: tuple[TrialState, ...] = ("complete", "pruned", "fail", "cancelled")


def plain_text(text: str) -> str:
    """NFC; `ValueError` for control characters and lone surrogates."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError("control characters and lone surrogates are not allowed")
    return unicodedata.normalize("NFC", text)


def _addressable(name: str) -> str:
    if name.isdigit() or "/" in name or "\\" in name or name in (".", "..") or name != name.strip():
        raise ValueError(
            "a name is part of addresses: no '/' or '\\', no blanks at the ends, "
            "not digits alone, not '.' or '..'"
        )
    return name


Text = Annotated[str, AfterValidator(plain_text)]
ShortText = Annotated[str, StringConstraints(max_length=1000), AfterValidator(plain_text)]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_NAME),
    AfterValidator(plain_text),
    AfterValidator(_addressable),
]
Key = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(plain_text)]
WorkerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@-]{1,100}$")]
LeaseId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
    Field(
        description="A UUID made by the worker, used once.",
        examples=["1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"],
    ),
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ArtifactName = Annotated[
    str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*$")
]
# The artifact that the next attempt of a trial goes on from.
CHECKPOINT = "checkpoint"
# The artifact with what a completed trial says of the rows that its networks were not shown.
OUT_OF_FOLD = "out_of_fold"
# The artifact with the networks of a completed trial's folds: a `model`, where that may be served.
FOLD_NETWORKS = "fold_networks"
Int63 = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Step = Annotated[int, Field(ge=1, le=2**31 - 1, description="Finished epochs, from 1.")]
ParamValue = bool | Int63 | Finite | ShortText | None
FixedValue = ParamValue | Annotated[list[ParamValue], Field(max_length=100)]


class Model(BaseModel):
    """Base of all schemas: nothing coerced, nothing unknown, nothing not finite."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )
