"""A user's own function, evaluated trial by trial; whatever it does ends its trial at the worst."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from hpo_service import errors, protocol
from workers.custom_trial import Trial
from workers.work import Channel, Work

OPTION = "--objective"
LONGEST_MESSAGE = 4000

Function = Callable[[Trial], Any]


def load(function: str) -> Callable[[Work, Channel], None]:
    """What evaluates leases with the function `module:name`, found from the current folder.

    Raises `InvalidRequest` where there is none that takes a trial.
    """
    return partial(run, find(function))


def run(function: Function, work: Work, channel: Channel) -> None:
    """Evaluate the leases in turn; each ends with exactly one tell."""
    for lease in work.leases:
        channel.tell(lease.lease_id, evaluate(function, Trial(lease, work, channel)))


def evaluate(function: Function, trial: Trial) -> protocol.Tell:
    """How the trial ended: what the function returned, or why there is nothing."""
    try:
        answer = function(trial)
    except BaseException as error:  # sys.exit() too is the trial's end, not the worker's
        traceback.print_exception(error)
        return trial.cut_short() or _failed(_reason(error), describe(error))
    cut_short = trial.cut_short()
    if cut_short is not None:
        return cut_short
    try:
        return trial.complete(answer)
    except ArithmeticError as error:
        return _failed("non_finite", str(error))
    except (TypeError, ValueError) as error:
        return _failed("error", str(error))


def _failed(reason: str, message: str) -> protocol.Tell:
    # What a user's code says may hold what no database stores.
    plain = message.replace("\0", "").encode("utf-8", "replace").decode()[:LONGEST_MESSAGE]
    error = protocol.TrialError(reason=reason, message=plain)
    return protocol.Tell(state="fail", error=error)


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "oom"
    if "torch" in sys.modules:
        from workers.training import devices

        if isinstance(error, Exception) and devices.is_out_of_memory(error):
            return "oom"
    return "error"


def describe(error: BaseException) -> str:
    """The last line of the traceback, and where in the user's code it happened."""
    sentence = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError) and error.filename:
        return f"{sentence} ({Path(error.filename).name}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    if not own:
        return sentence
    return f"{sentence} ({Path(own[-1].filename).name}, line {own[-1].lineno})"


def _is_own(filename: str) -> bool:
    """Whether it lies below the current folder, and not in a package installed there."""
    path = Path(filename)
    return path.is_relative_to(Path.cwd()) and "site-packages" not in path.parts


# --- finding the function -------------------------------------------------------------------


def find(function: str) -> Function:
    """The function `module:name`; raises `InvalidRequest` where there is none to be called."""
    module_name, _, path = function.partition(":")
    found: Any = _import(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise errors.invalid(OPTION, f"{module_name} has no {path!r}{_others(found)}")
        found = getattr(found, name)
    if not callable(found):
        raise errors.invalid(OPTION, f"{function} is no function but {type(found).__name__}")
    try:
        inspect.signature(found).bind("trial")
    except TypeError:
        message = f"{function} must take one argument, the trial: def {path}(trial)"
        raise errors.invalid(OPTION, message) from None
    except ValueError:  # written in C: it does not say what it takes
        pass
    return found  # type: ignore[no-any-return]


def _import(name: str) -> ModuleType:
    folder = os.getcwd()
    sys.path.insert(0, folder)  # first, as where Python runs a script of that folder
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise errors.invalid(OPTION, f"{name} cannot be imported: {describe(error)}") from None
        top = name.partition(".")[0]
        raise errors.invalid(
            OPTION,
            f"there is no module {name!r} in {folder} or among the installed packages: start the "
            f"worker in the folder that holds {top}.py or {top}/",
        ) from None
    except BaseException as error:  # a script that ends with sys.exit() too
        raise errors.invalid(OPTION, f"{name} cannot be imported: {describe(error)}") from None


def _others(module: object) -> str:
    """What the module defines instead."""
    own = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == getattr(module, "__name__", "")
    ]
    return f": take one of {', '.join(own[:10])}" if own else ""
