"""Processes that start together and end together, whatever ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Self

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 35.0  # a worker may take 30 s to give its leases back
POLL_SECONDS = 0.1


class Stop:
    """Whether, and how often, somebody asked this process to stop.

    Signals only set a flag: an exception in the middle of starting a process could lose it.
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._event = threading.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    @property
    def exit_code(self) -> int:
        """The exit code of a process that ended by the first signal."""
        return 128 + self.signals[0] if self.signals else 0

    @property
    def insisted(self) -> bool:
        """Asked twice: no more waiting."""
        return len(self.signals) > 1

    def ask(self, number: int, _frame: object = None) -> None:
        """The signal handler."""
        self.signals.append(number)
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than until asked to stop; whether that was so."""
        return self._event.wait(seconds)


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Take Ctrl-C, SIGTERM and SIGHUP as wishes to stop, until the end of the block."""
    stop = Stop()
    before = {number: signal.signal(number, stop.ask) for number in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Processes:
    """Children in process groups of their own, so that Ctrl-C reaches them through us alone."""

    stop: Stop
    grace: float = GRACE_SECONDS
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a child with the whole of its environment.

        `log` takes all it writes, which else goes where our own output goes.
        """
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def end(self) -> None:
        """Ask all to end, wait for `grace` seconds or until asked to stop once more, then kill."""
        for process in self.running:
            process.terminate()
        deadline = time.monotonic() + self.grace
        while self._left() and time.monotonic() < deadline and not self.stop.insisted:
            time.sleep(POLL_SECONDS)
        for process in self._left():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _left(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self.running if process.poll() is None]
