"""What all commands share: one-line errors with exit codes, and the server to call."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from typer.core import TyperGroup

from hpo_service import errors
from hpo_service.cli import INTERRUPTED
from hpo_service.client import Client

DEFAULT_URL = "http://127.0.0.1:8000"

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="HPO_URL",
        metavar="ADDRESS",
        help="The server to talk to.",
        rich_help_panel="Server",
    ),
]
Token = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="HPO_TOKEN",
        metavar="TOKEN",
        help="The token it asks for; the variable keeps it out of the list of processes.",
        show_default=False,
        rich_help_panel="Server",
    ),
]


class Group(TyperGroup):
    """A group of commands; called without one, it shows which there are."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Typer's own, which would take no arguments for wrong usage."""
        return super().parse_args(ctx, args or ["--help"])


class Root(Group):
    """The command `hpo`: whatever fails ends as one line on stderr and an exit code.

    0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit."""
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.Abort:
            code = INTERRUPTED
        except Exception as error:
            code = complain(error)
        raise SystemExit(code if isinstance(code, int) else 0)


def complain(error: Exception) -> int:
    """Say in one line on stderr what went wrong; returns the exit code."""
    if os.environ.get("HPO_DEBUG"):
        traceback.print_exception(error)
    typer.secho(f"Error: {' '.join(sentence(error).split())}", fg="red", err=True)
    return error.exit_code if isinstance(error, typer.TyperException) else 1


def sentence(error: Exception) -> str:
    """What went wrong, and what to do about it."""
    match error:
        case typer.TyperException():
            context = getattr(error, "ctx", None)
            hint = f" See `{context.command_path} --help`." if context else ""
            return f"{error.format_message().rstrip('.')}.{hint}"
        case errors.Unreachable():
            return f"{error.message} Start one with `hpo serve`, or name it with --url."
        case errors.Unavailable() if error.__cause__:
            cause = str(getattr(error.__cause__, "orig", error.__cause__))
            return f"{error.message} ({cause.splitlines()[0]})"
        case errors.Unauthorized():
            return f"{error.message} The commands take it as --token or HPO_TOKEN."
        case errors.HpoError():
            return "; ".join(f"{f.field}: {f.message}" for f in error.fields) or error.message
        case ValidationError():
            return "; ".join(map(field_message, error.errors(include_url=False)))
        case OSError() if error.strerror:
            return ": ".join(part for part in (error.filename, error.strerror) if part)
    return f"{type(error).__name__}: {error} (HPO_DEBUG=1 shows where)"


def field_message(details: Any) -> str:
    """One of pydantic's complaints, as `path.to.field: what is wrong`."""
    path = ".".join(str(part) for part in details["loc"])
    message = details["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


def connect(url: str, token: str) -> Client:
    """The client a command talks through."""
    return Client(url, token)


def console() -> Console:
    """Standard output; made anew for each command, so that it is always the present one."""
    return Console(highlight=False, soft_wrap=True)
