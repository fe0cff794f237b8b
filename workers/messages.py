"""What agent and training process say to each other: one JSON object per line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from hpo_service import protocol
from hpo_service.protocol import Model


class Pack(Model):
    """To the child: leases to evaluate together, the files to read, the folder to write to.

    `data` is None where the study names no data set, `checkpoints` are files by lease id,
    `predictions` by hash, `lanes` the most networks to train in one pass.
    """

    type: Literal["pack"] = "pack"
    leases: list[protocol.TrialLease]
    data: str | None
    holdout: str | None
    predictions: dict[str, str] = Field(default_factory=dict)
    artifacts: str
    checkpoints: dict[str, str] = Field(default_factory=dict)
    lanes: int | None = None


class More(Model):
    """To the child: leases to evaluate with the pack it has, or after it with the same files."""

    type: Literal["more"] = "more"
    leases: list[protocol.TrialLease]
    checkpoints: dict[str, str] = Field(default_factory=dict)


class Judged(Model):
    """To the child: a decision that asks for something else than to go on."""

    type: Literal["judged"] = "judged"
    lease_id: str
    decision: protocol.Decision


class Ready(Model):
    """From the child: the objective is loaded and will run on `device`."""

    type: Literal["ready"] = "ready"
    device: str


class Broken(Model):
    """From the child: the objective cannot be loaded here, whatever the trial."""

    type: Literal["broken"] = "broken"
    message: str


class Done(Model):
    """From the child: the objective has returned from these leases, each of them told."""

    type: Literal["done"] = "done"
    lease_ids: list[str]


class Opened(Model):
    """In a spool: the lease that all further entries belong to."""

    type: Literal["opened"] = "opened"
    lease: protocol.TrialLease


class Reported(Model):
    """A finished step."""

    type: Literal["reported"] = "reported"
    report: protocol.Report


class Stored(Model):
    """An artifact, written to the file `path`."""

    type: Literal["stored"] = "stored"
    lease_id: str
    name: protocol.ArtifactName
    path: str


class Kept(Model):
    """The state after `step`, written to the file `path`."""

    type: Literal["kept"] = "kept"
    lease_id: str
    step: protocol.Step
    path: str


class Told(Model):
    """How the attempt ended."""

    type: Literal["told"] = "told"
    lease_id: str
    tell: protocol.Tell


class Released(Model):
    """In a spool: the attempt was given up and is to be released."""

    type: Literal["released"] = "released"
    lease_id: str


ToChild = Annotated[Pack | More | Judged, Field(discriminator="type")]
Entry = Reported | Stored | Kept | Told | Released
Spooled = Annotated[Opened | Entry, Field(discriminator="type")]
FromChild = Annotated[
    Ready | Broken | Done | Reported | Stored | Kept | Told, Field(discriminator="type")
]

to_child: TypeAdapter[ToChild] = TypeAdapter(ToChild)
from_child: TypeAdapter[FromChild] = TypeAdapter(FromChild)
spooled: TypeAdapter[Spooled] = TypeAdapter(Spooled)


def line(message: Model) -> bytes:
    """The message as a line; JSON holds no bare line break."""
    return message.model_dump_json().encode() + b"\n"
