"""What can be tuned: declarations only, so that importing this loads no numerical library."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hpo_service import errors, protocol
from hpo_service.catalog.capsnet import CAPSNET
from hpo_service.catalog.cnn import CNN
from hpo_service.catalog.family import Family, Hyperparameters, NetworkHyperparameters
from hpo_service.catalog.gan import GAN
from hpo_service.catalog.logistic_regression import LOGISTIC_REGRESSION
from hpo_service.catalog.metrics import METRICS, TIE_BREAKER, Metric
from hpo_service.catalog.mlp import MLP
from hpo_service.catalog.perceptron import PERCEPTRON
from hpo_service.catalog.ridge import RIDGE
from hpo_service.catalog.rnn import RNN

__all__ = [
    "FAMILIES",
    "METRICS",
    "TIE_BREAKER",
    "Family",
    "Hyperparameters",
    "Metric",
    "NetworkHyperparameters",
    "check_space",
    "plain",
    "settings_of",
    "task_of",
]

_When = dict[str, list[protocol.ParamValue]] | None

FAMILIES: dict[str, Family] = {
    "mlp": MLP,
    "perceptron": PERCEPTRON,
    "cnn": CNN,
    "rnn": RNN,
    "capsnet": CAPSNET,
    "gan": GAN,
    "logistic_regression": LOGISTIC_REGRESSION,
    "ridge": RIDGE,
}


def plain(name: str) -> str:
    """The hyperparameter meant by a name of a search space: `learning_rate@sgd` is learning_rate.

    So one hyperparameter can have several ranges, each under a condition of its own.
    """
    return name.partition("@")[0]


def settings_of(family: Family, params: Mapping[str, Any]) -> Hyperparameters:
    """The family's settings, defaults filled in; `InvalidRequest` names each wrong `params.*`."""
    named = {plain(name): value for name, value in params.items()}
    if len(named) < len(params):
        doubled = next(name for name in params if plain(name) != name)
        raise errors.invalid(f"params.{doubled}", f"{plain(doubled)} has another value already")
    try:
        return family.hyperparameters.model_validate(named)
    except ValidationError as error:
        raise _refusal(family, "params", error.errors()) from None


def task_of(family: Family, data: protocol.Task) -> protocol.StudyTask:
    """What a study of this family on data of this task is to do."""
    return "generation" if family.tasks == ("generation",) else data


def check_space(family: Family, space: Mapping[str, protocol.Distribution]) -> None:
    """Every name is a hyperparameter of the family, every end and choice is legal for it.

    Raises `InvalidRequest` with fields such as `search_space.dropout.high`.
    """
    fields = [wrong for name, found in space.items() for wrong in _wrong_ends(family, name, found)]
    fields += _overlaps(space)
    if fields:
        raise errors.InvalidRequest(_sentence(fields), fields=tuple(fields))


def check_labels(space: Mapping[str, protocol.Distribution]) -> None:
    """Ranges of one name, told apart by labels, are never active together.

    Raises `InvalidRequest` with fields such as `search_space.learning_rate@sgd`.
    """
    fields = _overlaps(space)
    if fields:
        raise errors.InvalidRequest(_sentence(fields), fields=tuple(fields))


def _wrong_ends(
    family: Family, name: str, distribution: protocol.Distribution
) -> list[errors.FieldError]:
    if plain(name) not in family.hyperparameters.model_fields:
        return [errors.FieldError(f"search_space.{name}", _unknown(family))]
    ends: dict[str, Any]
    if isinstance(distribution, protocol.Choice):
        ends = {f"choices.{index}": value for index, value in enumerate(distribution.choices)}
    else:
        ends = {"low": distribution.low, "high": distribution.high}
    wrong = []
    for end, value in ends.items():
        try:
            family.hyperparameters.model_validate({plain(name): value})
        except ValidationError as error:
            message = _plain(error.errors()[0])
            wrong.append(errors.FieldError(f"search_space.{name}.{end}", f"{value!r}: {message}"))
    return wrong


def _overlaps(space: Mapping[str, protocol.Distribution]) -> list[errors.FieldError]:
    """Names of one hyperparameter must not be active together: told apart by a common parent."""
    return [
        errors.FieldError(
            f"search_space.{two}",
            f"may be active together with {one!r}: give both a `when` on the same parameter, "
            "with other values",
        )
        for one, two in itertools.combinations(space, 2)
        if plain(one) == plain(two) and not _exclusive(space[one].when, space[two].when)
    ]


def _exclusive(one: _When, two: _When) -> bool:
    return any(
        not any(value in (two or {})[parent] for value in values)
        for parent, values in (one or {}).items()
        if parent in (two or {})
    )


def _refusal(family: Family, root: str, details: list[ErrorDetails]) -> errors.InvalidRequest:
    fields: dict[str, str] = {}
    for detail in details:
        # Below a name stand the branches of a union, which mean nothing to a user.
        name = ".".join([root, *(str(part) for part in detail["loc"][:1])])
        unknown = detail["type"] == "extra_forbidden"
        fields.setdefault(name, _unknown(family) if unknown else _plain(detail))
    wrong = [errors.FieldError(field, message) for field, message in fields.items()]
    return errors.InvalidRequest(_sentence(wrong), fields=tuple(wrong))


def _plain(detail: ErrorDetails) -> str:
    return detail["msg"].removeprefix("Value error, ")


def _unknown(family: Family) -> str:
    known = ", ".join(family.hyperparameters.model_fields)
    return f"not a hyperparameter of {family.name}; it has {known}"


def _sentence(fields: list[errors.FieldError]) -> str:
    return "; ".join(f"{wrong.field}: {wrong.message}" for wrong in fields)
