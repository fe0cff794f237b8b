"""What samplers and pruners have in common: options beside the name, checked strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from hpo_service import errors


class Options(BaseModel):
    """Base of all options: nothing coerced, nothing unknown, nothing not finite."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


O = TypeVar("O", bound=Options)  # noqa: E741


def parse(options: type[O], given: Mapping[str, Any], where: str) -> O:
    """The options with their defaults; `InvalidRequest` with fields such as `sampler.points`."""
    try:
        return options.model_validate(dict(given))
    except ValidationError as error:
        wrong = tuple(
            errors.FieldError(".".join([where, *map(str, found["loc"])]), found["msg"])
            for found in error.errors()
        )
        sentence = "; ".join(f"{w.field}: {w.message}" for w in wrong)
        raise errors.InvalidRequest(sentence, fields=wrong) from None


def one_metric_only(where: str) -> errors.InvalidRequest:
    """The refusal of a plug-in that cannot weigh several metrics against each other."""
    return errors.invalid(f"{where}.name", "works for one metric only: choose another one")
