"""The process that trains: replaceable, killable, kept between packs to save loading torch.

It hears one JSON message per line on standard input and answers on standard output; both are
taken over at the start, so what libraries print goes to standard error. It ends when its input
ends: a training process without an agent is of no use to anybody.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import importlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from hpo_service import protocol
from workers import messages
from workers.work import Work

PR_SET_PDEATHSIG = 1  # linux/prctl.h
OUT_OF_MEMORY_FIRST = 500  # of the system's choices this process goes before its agent

Run = Callable[[Work, "PipeChannel"], None]


class PipeChannel:
    """`workers.work.Channel` over the pipe to the agent."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._decisions: dict[str, protocol.Decision] = {}
        self._folder = Path()
        self.untold: set[str] = set()

    def expect(self, pack: messages.Pack) -> None:
        """Forget the last pack, before anything is heard about this one."""
        self._decisions = {}
        self._folder = Path(pack.artifacts)
        self.untold = {lease.lease_id for lease in pack.leases}

    def say(self, message: messages.FromChild) -> None:
        """Send a message to the agent, whole."""
        with self._lock:
            self._out.write(messages.line(message))
            self._out.flush()

    def judge(self, judged: messages.Judged) -> None:
        """Keep a decision for the objective to ask for."""
        self._decisions[judged.lease_id] = judged.decision

    def report(self, report: protocol.Report) -> None:
        self.say(messages.Reported(report=report))

    def decision(self, lease_id: str) -> protocol.Decision | None:
        return self._decisions.get(lease_id)

    def tell(self, lease_id: str, tell: protocol.Tell) -> None:
        self.untold.discard(lease_id)
        self.say(messages.Told(lease_id=lease_id, tell=tell))

    def artifact(self, lease_id: str, name: str, data: bytes) -> None:
        path = self._folder / f"{lease_id}.artifact-{name}"
        stored = messages.Stored(lease_id=lease_id, name=name, path=str(path))  # checks the name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.say(stored)


def main() -> int:
    """Serve packs until the agent is gone."""
    incoming, channel = _take_over_pipes()
    options = _arguments()
    _prepare_to_die()
    packs: queue.SimpleQueue[messages.Pack] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(incoming, packs, channel), daemon=True).start()
    try:
        run, device = _load(options.objective, options.device)
    except Exception as error:
        channel.say(messages.Broken(message=f"{type(error).__name__}: {error}"))
        return 1
    channel.say(messages.Ready(device=device))
    while True:
        _evaluate(run, packs.get(), channel, device, options.threads)
        channel.say(messages.Done())


def _evaluate(
    run: Run, pack: messages.Pack, channel: PipeChannel, device: str, threads: int
) -> None:
    """Run the objective; every lease of the pack is told, come what may."""
    holdout = Path(pack.holdout) if pack.holdout else None
    reason, message = "error", "The objective ended without a result."
    try:
        run(Work(pack.leases, Path(pack.data), holdout, device, threads), channel)
    except MemoryError as error:
        reason, message = "oom", str(error) or "Out of memory."
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    for lease_id in sorted(channel.untold):
        why = protocol.TrialError(reason=reason, message=message[:4000])
        channel.tell(lease_id, protocol.Tell(state="fail", error=why))


def _take_over_pipes() -> tuple[BinaryIO, PipeChannel]:
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    # A forked helper that held the pipe would hide the end of this process from the agent.
    os.register_at_fork(after_in_child=lambda: os.close(outgoing.fileno()))
    return incoming, PipeChannel(outgoing)


def _prepare_to_die() -> None:
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the agent's to handle
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_FIRST))


def _listen(
    incoming: BinaryIO, packs: queue.SimpleQueue[messages.Pack], channel: PipeChannel
) -> None:
    try:
        for line in incoming:
            match messages.to_child.validate_json(line):
                case messages.Pack() as pack:
                    channel.expect(pack)
                    packs.put(pack)
                case messages.Judged() as judged:
                    channel.judge(judged)
    finally:
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _load(objective: str, device: str) -> tuple[Run, str]:
    """The function `module:name`, and the device it will really use.

    Its module may say what `auto` means on this machine, and refuse a device that it does not
    have, in a function `device(name) -> str`.
    """
    module_name, _, name = objective.partition(":")
    module = importlib.import_module(module_name)
    resolve: Callable[[str], str] | None = getattr(module, "device", None)
    if resolve is None:
        return getattr(module, name), "cpu" if device == "auto" else device
    return getattr(module, name), resolve(device)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="workers.child")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--objective", default="workers.objective:run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
