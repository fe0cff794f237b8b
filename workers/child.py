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
import logging
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from hpo_service import errors, protocol
from workers import messages
from workers.work import Work

PR_SET_PDEATHSIG = 1  # linux/prctl.h
OUT_OF_MEMORY_FIRST = 500  # of the system's choices this process goes before its agent

log = logging.getLogger("hpo.worker")

Run = Callable[[Work, "PipeChannel"], None]


class PipeChannel:
    """`workers.work.Channel` over the pipe to the agent, and what has arrived through it."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._arrived: deque[messages.Pack | messages.More] = deque()
        self._arrival = threading.Condition()
        self._decisions: dict[str, protocol.Decision] = {}
        self._folder = Path()
        self.checkpoints: dict[str, Path] = {}
        self.given: list[str] = []  # the leases that the objective has by now
        self.untold: set[str] = set()

    # --- for the process --------------------------------------------------------------------

    def receive(self, message: messages.Pack | messages.More) -> None:
        """Leases have arrived."""
        with self._arrival:
            self._arrived.append(message)
            self._arrival.notify()

    def judge(self, judged: messages.Judged) -> None:
        """Keep a decision for the objective to ask for."""
        self._decisions[judged.lease_id] = judged.decision

    def next(self, last: messages.Pack | None) -> messages.Pack:
        """Wait for leases; those that came too late for the last pack are one with its files."""
        with self._arrival:
            self._arrival.wait_for(lambda: self._arrived)
            found = self._arrived.popleft()
        if isinstance(found, messages.More):
            assert last is not None  # there is nothing to add to before the first pack
            new = {"leases": found.leases, "checkpoints": found.checkpoints, "lanes": None}
            return self._begin(last.model_copy(update=new))
        return self._begin(found)

    def _begin(self, pack: messages.Pack) -> messages.Pack:
        self._folder = Path(pack.artifacts)
        self.given, self.untold, self.checkpoints = [], set(), {}
        self._take(pack)
        return pack

    def _take(self, message: messages.Pack | messages.More) -> None:
        self.given += [lease.lease_id for lease in message.leases]
        self.untold |= {lease.lease_id for lease in message.leases}
        self.checkpoints |= {key: Path(path) for key, path in message.checkpoints.items()}

    def say(self, message: messages.FromChild) -> None:
        """Send a message to the agent, whole."""
        with self._lock:
            self._out.write(messages.line(message))
            self._out.flush()

    # --- for the objective ------------------------------------------------------------------

    def report(self, report: protocol.Report) -> None:
        self.say(messages.Reported(report=report))

    def decision(self, lease_id: str) -> protocol.Decision | None:
        return self._decisions.get(lease_id)

    def tell(self, lease_id: str, tell: protocol.Tell) -> None:
        self.untold.discard(lease_id)
        self.say(messages.Told(lease_id=lease_id, tell=tell))
        self._decisions.pop(lease_id, None)

    def artifact(self, lease_id: str, name: str, data: bytes) -> None:
        path = self._folder / f"{lease_id}.artifact-{name}"
        stored = messages.Stored(lease_id=lease_id, name=name, path=str(path))  # checks the name
        _write(path, data)
        self.say(stored)

    def checkpoint(self, lease_id: str, step: int, data: bytes) -> None:
        # A name of its own: the agent may be sending an older one.
        path = self._folder / f"{lease_id}.checkpoint-{step}"
        kept = messages.Kept(lease_id=lease_id, step=step, path=str(path))
        try:
            _write(path, data)
        except OSError as error:  # a disk that fails costs the safety net, never the trial
            log.warning("no checkpoint: %s", error)
        else:
            self.say(kept)

    def more(self) -> list[protocol.TrialLease]:
        leases: list[protocol.TrialLease] = []
        with self._arrival:
            while self._arrived and isinstance(self._arrived[0], messages.More):
                found = self._arrived.popleft()
                self._take(found)
                leases += found.leases
        return leases


def _write(path: Path, data: bytes) -> None:
    """Write a file for its owner alone, on disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def main() -> int:
    """Serve packs until the agent is gone."""
    incoming, channel = _take_over_pipes()
    options = _arguments()
    _prepare_to_die()
    threading.Thread(target=_listen, args=(incoming, channel), daemon=True).start()
    try:
        run, device = _load(options)
    except errors.InvalidRequest as error:
        channel.say(messages.Broken(message=str(error)))
        return 1
    except Exception as error:
        channel.say(messages.Broken(message=f"{type(error).__name__}: {error}"))
        return 1
    channel.say(messages.Ready(device=device))
    pack = None
    while True:
        pack = channel.next(pack)
        _evaluate(run, _work(pack, channel, device, options), channel)
        channel.say(messages.Done(lease_ids=channel.given))


def _work(
    pack: messages.Pack, channel: PipeChannel, device: str, options: argparse.Namespace
) -> Work:
    return Work(
        leases=pack.leases,
        data=Path(pack.data) if pack.data else None,
        holdout=Path(pack.holdout) if pack.holdout else None,
        device=device,
        threads=options.threads,
        checkpoints=channel.checkpoints,
        predictions={sha256: Path(path) for sha256, path in pack.predictions.items()},
        lanes=pack.lanes,
        precision=options.precision,
    )


def _evaluate(run: Run, work: Work, channel: PipeChannel) -> None:
    """Run the objective; every lease of the pack is told, come what may."""
    reason, message = "error", "The objective ended without a result."
    try:
        run(work, channel)
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


def _listen(incoming: BinaryIO, channel: PipeChannel) -> None:
    try:
        for line in incoming:
            match messages.to_child.validate_json(line):
                case messages.Judged() as judged:
                    channel.judge(judged)
                case leases:
                    channel.receive(leases)
    finally:
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _load(options: argparse.Namespace) -> tuple[Run, str]:
    """The objective `module:name`, and the device it will really use.

    Its module may say what `auto` means on this machine, and refuse a device that it does not
    have, in a function `device(name) -> str`. Where `options` name a function of the user's own,
    the objective is what makes a `Run` of that name.
    """
    module_name, _, name = options.objective.partition(":")
    module = importlib.import_module(module_name)
    run: Any = getattr(module, name)
    if options.function is not None:
        run = run(options.function)
    resolve: Callable[[str], str] | None = getattr(module, "device", None)
    if resolve is None:
        return run, "cpu" if options.device == "auto" else options.device
    return run, resolve(options.device)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="workers.child")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="full")
    parser.add_argument("--objective", default="workers.objective:run")
    parser.add_argument("--function")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
