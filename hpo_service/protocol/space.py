"""Search spaces: ranges, choices, conditions."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from hpo_service.protocol.base import MAX_INT, Finite, Int63, Key, Model, ParamValue


class _Conditional(Model):
    when: Annotated[
        dict[Key, Annotated[list[ParamValue], Field(min_length=1, max_length=1000)]] | None,
        Field(description="Active only where each named parameter has one of these values."),
    ] = None


class _Range(_Conditional):
    @model_validator(mode="after")
    def _low_is_not_above_high(self) -> Self:
        low, high = self.low, self.high  # type: ignore[attr-defined]
        if low > high:
            raise ValueError(f"low {low} is above high {high}: swap them")
        if self.log and low <= 0:  # type: ignore[attr-defined]
            raise ValueError(f"a log range needs low > 0, not {low}")
        if self.log and self.step not in (None, 1):  # type: ignore[attr-defined]
            raise ValueError("a range is either log or stepped: leave out one of the two")
        return self


class FloatRange(_Range):
    """Real numbers from `low` to `high`, both included."""

    type: Literal["float"]
    low: Finite
    high: Finite
    step: Annotated[float, Field(gt=0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _width_is_finite(self) -> Self:
        if self.high - self.low == float("inf"):
            raise ValueError("the range from low to high is too wide for a float")
        return self


class IntRange(_Range):
    """Whole numbers from `low` to `high`, both included."""

    type: Literal["int"]
    low: Int63
    high: Int63
    step: Annotated[int, Field(gt=0, le=MAX_INT)] = 1
    log: bool = False


class Choice(_Conditional):
    """One of the listed values."""

    type: Literal["categorical"]
    choices: Annotated[list[ParamValue], Field(min_length=1, max_length=1000)]
    ordered: Annotated[
        bool, Field(description="Whether neighbours in the list are more alike than others.")
    ] = False

    @field_validator("choices")
    @classmethod
    def _no_choice_twice(cls, choices: list[ParamValue]) -> list[ParamValue]:
        # Python holds 1, 1.0 and True for equal, and so do Optuna's categorical distributions.
        if len(set(choices)) != len(choices):
            raise ValueError("a choice is listed twice (1, 1.0 and true count as the same)")
        return choices


Distribution = Annotated[FloatRange | IntRange | Choice, Field(discriminator="type")]
SearchSpace = Annotated[dict[Key, Distribution], Field(min_length=1, max_length=200)]
