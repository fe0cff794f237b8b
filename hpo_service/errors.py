"""What can go wrong, each error with the HTTP status and the code it has on the wire.

HpoError
├── BadRequest            400 bad_request         the bytes are not what they claim to be
├── Unauthorized          401 unauthorized
├── Forbidden             403 forbidden
├── NotFound              404 not_found
├── Conflict              409 conflict
│   ├── NameTaken             name_taken
│   ├── LeaseLost             lease_lost
│   ├── TrialCancelled        cancelled
│   ├── TrialFinished         finished
│   ├── ReportConflict        report_conflict
│   ├── BudgetSpent           budget_spent
│   ├── HeldOutSpent          held_out_spent
│   └── WrongState            wrong_state
├── TooLarge              413 too_large
├── UnsupportedMediaType  415 unsupported_media_type
├── InvalidRequest        422 invalid_request     carries the fields that are wrong
├── Unavailable           503 unavailable         try again after `retry_after` seconds
│   └── Unreachable           unreachable         raised by the client only: no answer at all
└── ServerError           500 internal            a bug of ours, seen from the client

The docstring of a class is its default message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """One wrong field: its path (`search_space.momentum.low`) and what to do about it."""

    field: str
    message: str


class HpoError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str | None = None,
        *,
        fields: tuple[FieldError, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.fields = fields
        self.retry_after = retry_after
        super().__init__(self.message)


class BadRequest(HpoError):
    """The request body cannot be read."""

    status, code = 400, "bad_request"


class Unauthorized(HpoError):
    """A valid token is needed: send it as `Authorization: Bearer <token>`."""

    status, code = 401, "unauthorized"


class Forbidden(HpoError):
    """This is not yours to see or to change."""

    status, code = 403, "forbidden"


class NotFound(HpoError):
    """There is no such thing."""

    status, code = 404, "not_found"


class Conflict(HpoError):
    """The present state does not allow this."""

    status, code = 409, "conflict"


class NameTaken(Conflict):
    """That name is taken already: choose another one."""

    code = "name_taken"


class LeaseLost(Conflict):
    """This lease is not held any more: drop the work and lease anew with a fresh id."""

    code = "lease_lost"


class TrialCancelled(Conflict):
    """The trial was cancelled."""

    code = "cancelled"


class TrialFinished(Conflict):
    """The trial has ended already, and ended trials never change."""

    code = "finished"


class ReportConflict(Conflict):
    """Another value is stored for this step."""

    code = "report_conflict"


class BudgetSpent(Conflict):
    """The study's budget of trials is spent: raise `budget.trials` first."""

    code = "budget_spent"


class HeldOutSpent(Conflict):
    """The held-out rows have been handed out for the final score: budget and space are closed."""

    code = "held_out_spent"


class WrongState(Conflict):
    """The study or trial is not in a state that allows this."""

    code = "wrong_state"


class TooLarge(HpoError):
    """The request body is too large."""

    status, code = 413, "too_large"


class UnsupportedMediaType(HpoError):
    """The Content-Type or Content-Encoding of the body is not understood."""

    status, code = 415, "unsupported_media_type"


class InvalidRequest(HpoError):
    """Some fields of the request are not valid."""

    status, code = 422, "invalid_request"

    def below(self, path: str, instead: str) -> InvalidRequest:
        """The same about fields that stand below `path`, not below `instead`."""
        wrong = [
            FieldError(path + field.field.removeprefix(instead), field.message)
            for field in self.fields
        ]
        sentence = "; ".join(f"{field.field}: {field.message}" for field in wrong)
        return InvalidRequest(sentence, fields=tuple(wrong))


class Unavailable(HpoError):
    """The service cannot do this right now: try again in a moment."""

    status, code = 503, "unavailable"


class Unreachable(Unavailable):
    """The server does not answer."""

    code = "unreachable"


class ServerError(HpoError):
    """The server failed in a way it should not."""


def invalid(field: str, message: str) -> InvalidRequest:
    """An `InvalidRequest` about one field; its message reads well alone."""
    return InvalidRequest(f"{field}: {message}", fields=(FieldError(field, message),))


def from_code(
    code: str,
    message: str,
    fields: tuple[FieldError, ...] = (),
    retry_after: float | None = None,
) -> HpoError:
    """The error a server's answer stands for; `ServerError` where the code is not known."""
    error = _BY_CODE.get(code, ServerError)
    return error(message, fields=fields, retry_after=retry_after)


def _tree(root: type[HpoError]) -> list[type[HpoError]]:
    return [root, *(found for child in root.__subclasses__() for found in _tree(child))]


_BY_CODE = {error.code: error for error in _tree(HpoError) if error not in (HpoError, ServerError)}
