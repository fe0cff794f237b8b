"""`python -m workers`: one worker, which leases trials from a server and trains them."""

from __future__ import annotations

import argparse
import logging
import os
import re
import secrets
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from hpo_service import errors, protocol
from hpo_service.client import Client
from workers import place
from workers.agent import Agent
from workers.options import Halt, Options

# Whatever hangs, a worker that was told to stop has gone by then.
STOP_SECONDS = 29
HURRY_SECONDS = 5

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class _OneLine(logging.Formatter):
    """Names and messages come from elsewhere: they must not steer the reader's terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", super().format(record))


def main(arguments: list[str] | None = None) -> int:
    """Run a worker; returns its exit code."""
    given = _parser().parse_args(arguments)
    _log_to_stderr()
    try:
        cache = place.root(given.cache_dir)
        os.environ[place.VARIABLE] = str(cache)  # for the training process, too
        options = Options(
            name=f"{given.name}-{secrets.token_hex(4)}",
            cache=cache,
            study=given.study,
            once=given.once,
            pack=given.pack,
            refill=given.refill,
            alike=given.alike,
            device=given.device,
            threads=given.threads,
            precision=given.precision,
            **_objective(given),
        )
        with Client(given.url, given.token) as client:
            agent = Agent(client, options)
            _handle_signals(agent)
            return agent.run()
    except (errors.HpoError, Halt, OSError, RuntimeError) as error:
        logging.getLogger("hpo.worker").error("%s", error)
        return 1


def _handle_signals(agent: Agent) -> None:
    seen: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        agent.on_signal(number)
        signal.alarm(STOP_SECONDS if len(seen) == 1 else HURRY_SECONDS)

    def give_up(_number: int, _frame: FrameType | None) -> None:
        os._exit(128 + seen[-1])  # the training process dies with this one

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGALRM, give_up)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s worker[%(process)d] %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("hpo.worker")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpo worker",
        description="Lease trials from a server and train them. Ctrl-C lets the epoch end.",
    )
    add = parser.add_argument
    add("--url", default=os.environ.get("HPO_URL", "http://127.0.0.1:8000"), help="HPO_URL")
    add("--token", default=os.environ.get("HPO_TOKEN", ""), help="better given as HPO_TOKEN")
    add("--device", type=_device, default="auto", help="auto, cpu, cuda or cuda:N")
    add("--threads", type=_whole(1, 1024), default=1, metavar="N", help="CPU threads (1)")
    add(
        "--precision",
        choices=("full", "mixed"),
        default="full",
        help="mixed: a GPU may multiply in fewer digits, which is faster (full)",
    )
    add("--study", type=_study, help="name or id; without it: any study with work")
    add("--once", action="store_true", help="exit when there is nothing left to lease")
    add(
        "--pack",
        type=_whole(1, protocol.MAX_LEASES),
        default=1,
        metavar="N",
        help="trials of one study to train together (1)",
    )
    add(
        "--refill",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="lease anew as soon as some trials of a pack have ended (yes); without: tell a pack's "
        "results together and in order, for exact repetition",
    )
    add(
        "--alike",
        type=_whole(1, protocol.MAX_LEASES),
        default=1,
        metavar="N",
        help="new trials of a pack that are to have one shape and batch size, for one pass (1)",
    )
    add("--cache-dir", help="HPO_CACHE_DIR, else " + place.DEFAULT)
    add("--name", type=_name, default="worker", help="how this worker's name begins")
    add(
        "--objective",
        type=_function,
        metavar="MODULE:FUNCTION",
        help="run this function of your own, for studies that name it, and nothing else",
    )
    # What the child runs instead of the catalog's training: a function `run(work, channel)`.
    add("--run", default=Options.objective, help=argparse.SUPPRESS)
    return parser


def _objective(given: argparse.Namespace) -> dict[str, Any]:
    """What the child runs, and which studies that serves."""
    if given.objective is None:
        return {"objective": given.run}
    if given.pack > 1:
        raise Halt("--pack: trials of your own function run one by one: start more workers")
    name, function = given.objective
    return {
        "objective": "workers.custom:load",
        "function": function,
        "objectives": (protocol.FUNCTION_PREFIX + name,),
    }


def _function(text: str) -> tuple[str, str]:
    try:
        return protocol.named_function(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError("write auto, cpu, cuda or cuda:N")
    return text


def _study(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def _whole(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"write a whole number from {low} to {high}")
        return int(text)

    return number


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:@-]{1,80}", text):
        raise argparse.ArgumentTypeError("use up to 80 letters, digits and . _ : @ -")
    return text


if __name__ == "__main__":
    sys.exit(main())
