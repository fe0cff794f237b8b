"""Objectives for tests of the worker: they do to their process whatever the parameters say."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from typing import Any

from hpo_service import protocol
from workers.work import Channel, Work


def run(work: Work, channel: Channel) -> None:
    """Each lease in turn: `epochs` reports of value step / 100, `seconds` apart, then an `end`."""
    for lease in work.leases:
        told = _train(lease, work, channel)
        channel.tell(lease.lease_id, told)


def in_step(work: Work, channel: Channel) -> None:
    """A step of each lease in turn, new leases too, going on from checkpoints and keeping them.

    Parameters: `epochs`; `seconds` per step; `end` how it ends, `at` after which step, unless the
    lanes are `spared`; `forgetful` trials keep nothing.
    """
    trials = [_InStep(lease, work) for lease in work.leases]
    while trials:
        trials = [trial for trial in trials if trial.step_on(channel)]
        trials += [_InStep(lease, work) for lease in channel.more()]


class _InStep:
    def __init__(self, lease: protocol.TrialLease, work: Work) -> None:
        self.lease, self.work, self.step = lease, work, 0
        self.given: dict[str, Any] = lease.params
        if lease.resume_step:
            self.step = json.loads(work.checkpoints[lease.lease_id].read_bytes())["step"]
            assert self.step == lease.resume_step
        self.began = self.step

    def step_on(self, channel: Channel) -> bool:
        """Do a step; whether there is another one."""
        lease_id = self.lease.lease_id
        self.step += 1
        time.sleep(self.given.get("seconds", float(os.environ.get("STEP_SECONDS", "0"))))
        if self.step == self.given.get("at") and not (self.given.get("spared") and self.work.lanes):
            _end(self.given["end"], self.work)
        channel.report(report(self.lease, self.step))
        decision = channel.decision(lease_id)
        if decision is not None or not self.given.get("forgetful"):
            channel.checkpoint(lease_id, self.step, json.dumps({"step": self.step}).encode())
        if decision is not None:
            channel.tell(lease_id, failed("stopped", decision.action))
        elif self.step >= self.given.get("epochs", 3):
            channel.tell(lease_id, self.result())
        return decision is None and self.step < self.given.get("epochs", 3)

    def result(self) -> protocol.Tell:
        notes = {"pid": os.getpid(), "began": self.began, "lanes": self.work.lanes}
        return protocol.Tell(
            state="complete", values=[self.step / 100], epoch=self.step, notes=notes
        )


def _train(lease: protocol.TrialLease, work: Work, channel: Channel) -> protocol.Tell:
    given: dict[str, Any] = lease.params
    epochs = given.get("epochs", 3)
    for step in range(1, epochs + 1):
        time.sleep(given.get("seconds", 0.0))
        channel.report(report(lease, step))
        decision = channel.decision(lease.lease_id)
        if decision is not None:
            return failed("stopped", decision.action)
    if "file" in given:
        channel.artifact(lease.lease_id, "model", b"weights")
    _end(given.get("end", ""), work)
    return protocol.Tell(
        state="complete",
        values=[epochs / 100],
        epoch=epochs,
        notes={"pid": os.getpid(), "holdout": str(work.holdout)},
    )


def _end(how: str, work: Work) -> None:
    match how:
        case "exit":
            os._exit(3)
        case "segfault":
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), signal.SIGSEGV)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            raise MemoryError
        case "error":
            raise ValueError("no such luck")
        case "hang":
            # With a helper that keeps the pipes of its parent open.
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            time.sleep(60)
        case "busy":
            # One call that holds the interpreter's lock for seconds.
            sum(range(150_000_000))
        case "holdout":
            assert work.holdout is not None
            assert work.holdout.read_bytes() == b"held-out rows"


def report(lease: protocol.TrialLease, step: int) -> protocol.Report:
    return protocol.Report(lease_id=lease.lease_id, step=step, values=[step / 100])


def failed(reason: str, message: str) -> protocol.Tell:
    error = protocol.TrialError(reason=reason, message=message)
    return protocol.Tell(state="fail", error=error)
