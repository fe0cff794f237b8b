"""How a user's own function is named, to workers that can run it and in studies that ask for it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, StringConstraints

PREFIX = "custom:"

FunctionName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,90}$"),
    Field(
        description="As its workers have it: `package.module:function`, or a name of your choice.",
        examples=["my_study:objective"],
    ),
]

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,90}")
_EXAMPLE = "such as my_study:objective"


def named_function(text: str) -> tuple[str, str]:
    """The name that studies use, and `module:function`, of `[NAME=]MODULE:FUNCTION`.

    Raises `ValueError` with a sentence that says what to write instead.
    """
    name, given, function = text.rpartition("=")
    module, _, attribute = function.partition(":")
    if module.endswith(".py") or "/" in module or "\\" in module:
        path = re.sub(r"[/\\]+", ".", module.removesuffix(".py")).strip(".")
        raise ValueError(
            f"{module} is a file: name its module, such as {path}:{attribute or 'objective'}"
        )
    if not attribute:
        raise ValueError(f"write MODULE:FUNCTION, {_EXAMPLE}")
    if not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        raise ValueError(f"{function} is not MODULE:FUNCTION, {_EXAMPLE}")
    name = name if given else function
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"studies cannot name it {name!r}: write NAME={function}, the name of up to 90 "
            "letters, digits and _ . : -"
        )
    return name, function


def worker_command(name: str) -> str:
    """How to start a worker for the studies that name this function."""
    function = name if ":" in name else f"{name}=MODULE:FUNCTION"
    return f"hpo worker --objective {function}"
