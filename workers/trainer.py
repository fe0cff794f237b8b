"""The training process as the agent sees it: started, spoken to, killed with all its helpers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from pydantic import ValidationError

from workers import messages
from workers.options import Options

Heard = Callable[["Trainer", messages.FromChild | None], None]

# Not for the training process: it does not speak to the server.
_SECRETS = ("HPO_TOKEN",)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Trainer:
    """A running `python -P -m workers.child`, leader of a process group of its own.

    `heard` gets each message from a thread of its own, and None when the process has ended.
    Must be made by a thread that lives on: the child dies with the thread that made it.
    """

    def __init__(self, options: Options, heard: Heard) -> None:
        threads = str(options.threads)
        arguments = ["--device", options.device, "--threads", threads]
        arguments += ["--precision", options.precision, "--objective", options.objective]
        if options.function is not None:
            arguments += ["--function", options.function]
        environment = {k: v for k, v in os.environ.items() if k not in _SECRETS}
        # A new session, too: Ctrl-C in a terminal is for the agent alone.
        self._process = subprocess.Popen(
            # -P: no file of the current folder is taken for a module of ours.
            [sys.executable, "-P", "-m", "workers.child", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | dict.fromkeys(_THREADS, threads),
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._heard = heard
        self._reader = threading.Thread(target=self._read, name="trainer", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id, and that of the group."""
        return self._process.pid

    def send(self, message: messages.ToChild) -> None:
        """Say something; a process that is gone is noticed by its end, not here."""
        with contextlib.suppress(OSError, ValueError):
            self._in.write(messages.line(message))
            self._in.flush()

    def kill(self) -> None:
        """End the process and all that it has started, at once."""
        self._kill_group()
        self._reader.join(timeout=5)
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):
                pipe.close()

    def ending(self) -> tuple[str, str]:
        """Why it ended, as reason and sentence of a trial's error; to be asked after its end."""
        code = self._process.wait()
        if code == -signal.SIGKILL:
            # Whoever sends SIGKILL unasked is nearly always the system short of memory.
            return "oom", "The training process was killed (SIGKILL): most likely out of memory."
        if code < 0:
            return "crash", f"The training process died of {signal.Signals(-code).name}."
        return "crash", f"The training process ended with exit code {code} before its work did."

    def _read(self) -> None:
        with contextlib.suppress(ValidationError, ValueError):  # a torn last line; a closed pipe
            for line in self._out:
                self._heard(self, messages.from_child.validate_json(line))
        # Helpers that outlived it would keep memory and device.
        self._kill_group()
        self._heard(self, None)

    def _kill_group(self) -> None:
        # Once it is waited for, its id may be another's.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
