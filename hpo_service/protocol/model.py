"""What a stored model says of itself, beside its arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError

from hpo_service import errors
from hpo_service.protocol.base import FixedValue, Model
from hpo_service.protocol.data import DatasetSchema

MODEL_FORMAT = 1


class ModelMember(Model):
    """One of several models of a family whose weighted mean predicts; see `ModelCard`.

    `number` is that of its trial.
    """

    params: dict[str, FixedValue]
    epochs: int | None
    seed: int
    number: int | None = None
    weight: Annotated[float, Field(gt=0, le=1, description="All of them sum to 1.")]


class ModelCard(Model):
    """The metadata of a `model` artifact, a safetensors file: JSON under `model`.

    Tensors: a network's weights and statistics, or what an estimator fitted, by name; of the
    restarts of an ensemble they begin with `networks.<number>.`; what was learnt of inputs and
    targets begins with `preprocessing.`. With `members` the file has all that for each of them, its
    names begin with `members.<place>.`, and params, epochs and seed are those of the first.
    """

    format: int = MODEL_FORMAT
    family: str
    params: dict[str, FixedValue]
    epochs: int | None
    seed: int
    layout: Literal["columns", "structured"]
    contents: DatasetSchema = Field(alias="schema")
    members: list[ModelMember] = []

    @classmethod
    def of(cls, file: str, metadata: Mapping[str, str] | None) -> Self:
        """From a file's metadata; `BadRequest` where it is no model that this version reads."""
        text = (metadata or {}).get("model", "")
        try:
            # Told before the fields are looked at, which another version may have changed.
            found = json.loads(text).get("format", MODEL_FORMAT)
        except (ValueError, AttributeError):
            raise errors.BadRequest(f"{file} is no model.") from None
        if found != MODEL_FORMAT:
            raise errors.BadRequest(
                f"{file} is a model of format {found!r}, and this version reads format "
                f"{MODEL_FORMAT}: use the version that made it."
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            wrong = error.errors()[0]
            where = ".".join(map(str, wrong["loc"]))
            message = f"{file} is no model of this version: {where}: {wrong['msg']}."
            raise errors.BadRequest(message) from None

    def metadata(self) -> dict[str, str]:
        """What `of` reads."""
        return {"model": self.model_dump_json(by_alias=True)}
