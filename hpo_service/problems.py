"""From pydantic's findings to fields a user recognises in what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError

from hpo_service import errors

PLACES = ("body", "query", "path", "header")
MAX_FIELDS = 20


def invalid_request(error: RequestValidationError) -> errors.HpoError:
    """400 where the body is no JSON at all, else 422 with a path and a sentence per field."""
    found: dict[str, list[str]] = {}
    for problem in error.errors():
        if problem["type"] == "json_invalid":
            return errors.BadRequest(f"The body is not valid JSON: {problem['ctx']['error']}.")
        field = field_path(problem["loc"], error.body, missing=problem["type"] == "missing")
        message = problem["msg"].removeprefix("Value error, ")
        messages = found.setdefault(field, [])
        if message not in messages:
            messages.append(message)
    fields = tuple(
        errors.FieldError(field, _sentence(messages)) for field, messages in found.items()
    )[:MAX_FIELDS]
    message = "; ".join(f"{f.field}: {f.message}" for f in fields[:3])
    return errors.InvalidRequest(message, fields=fields)


def field_path(loc: Sequence[str | int], body: Any, *, missing: bool = False) -> str:
    """The path of a field in the body, without the names pydantic gives to union branches."""
    if loc[0] != "body":
        return ".".join(str(part) for part in loc[1:]) or str(loc[0])
    path: list[str] = []
    at = body
    for part in loc[1:]:
        if _leads_on(at, part):
            path.append(str(part))
            at = at[part]
    if missing and isinstance(at, dict) and loc[-1] not in path[-1:]:
        path.append(str(loc[-1]))
    return ".".join(path) or "body"


def _leads_on(at: Any, part: str | int) -> bool:
    if isinstance(at, list):
        return isinstance(part, int) and part < len(at)
    return isinstance(at, dict) and part in at


def _sentence(messages: list[str]) -> str:
    """One sentence; a union of types says what each branch would have taken."""
    if len(messages) == 1:
        return messages[0]
    kinds = [m.removeprefix("Input should be ") for m in messages]
    return f"Input should be {' or '.join(kinds)}"
