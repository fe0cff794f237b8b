"""How the lanes of a group are computed: in one pass, one after another, or as memory allows.

Which is faster depends on the family, the size of the network and the machine. So each machine
tries every family's probes once, before its first trial of that family, and keeps what it found in
a file: all studies are computed the same way.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from workers import place
from workers.models.base import NetworkModel, Shape, Size
from workers.training.optimizers import optimizer

log = logging.getLogger("hpo.worker")

Kernel = Literal["batched", "alone", "split"]

PROBE_LANES, PROBE_ROWS, PROBE_STEPS, PROBE_ROUNDS = 5, 32, 4, 5
# A pass must be faster by this much: a measurement errs by a few per cent.
MARGIN = 1.03
# Copies of a lane's weights that a step needs: weights, gradient, two of the optimizer, scratch.
COPIES = 5
# Of the memory that is free, the share to plan with: predictions are rough.
MEMORY_SHARE = 0.5
LARGE = 2**62


@dataclass(frozen=True)
class Plan:
    """`lanes` of one pass, at most; `split`: more would not fit into the memory."""

    kernel: Kernel
    lanes: int


@dataclass(frozen=True)
class Probe:
    """What was measured: how many times faster one pass of `PROBE_LANES` lanes is."""

    kind: str
    numbers: int
    values: int
    ratio: float


def plan(model: NetworkModel, settings: Sequence[Any], shape: Shape, lanes: int) -> Plan:
    """How to compute so many lanes of the settings' largest network."""
    size = max((model.size(each, shape) for each in settings), key=lambda s: s.numbers + s.values)
    if lanes > 1 and not _one_pass(model, model.kind(settings[0]), size, shape.device):
        return Plan("alone", 1)
    rows = max(each.batch_size for each in settings)
    most = max(1, free_bytes(shape.device) // bytes_of(size, rows, shape.dtype))
    return Plan("batched", lanes) if most >= lanes else Plan("split", most)


def bytes_of(size: Size, rows: int, dtype: torch.dtype) -> int:
    """Bytes that training a lane takes, predicted."""
    return dtype.itemsize * (COPIES * size.numbers + rows * size.values)


def free_bytes(device: torch.device) -> int:
    """Memory to plan with: a share of what is free on the device."""
    if device.type == "cuda":
        return int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0])
    return int(MEMORY_SHARE * min(_available(), _below_limit()))


def _one_pass(model: NetworkModel, kind: str, size: Size, device: torch.device) -> bool:
    found = [probe for probe in table(model, device) if probe.kind == kind]
    if not found:
        return True
    nearest = min(found, key=lambda probe: _distance(probe, size))
    return nearest.ratio >= MARGIN


def _distance(probe: Probe, size: Size) -> float:
    return math.hypot(
        math.log(probe.numbers / size.numbers), math.log(probe.values / max(size.values, 1))
    )


# --- the table of a machine -------------------------------------------------------------------

_tables: dict[Path, list[Probe]] = {}


def table(model: NetworkModel, device: torch.device) -> list[Probe]:
    """What this machine found for the family's probes; measured now where it never was."""
    if not model.probes:
        return []
    path = place.root() / "kernels" / f"{_family(model)}-{_machine(device)}.json"
    if path not in _tables:
        _tables[path] = _read(path) or _write(path, _measure_all(model, device))
    return _tables[path]


def _family(model: NetworkModel) -> str:
    """Names the family, and its probes: a version that changes them measures anew."""
    described = repr([(vars(settings), shape.dims) for settings, shape in model.probes])
    return f"{model.build.__name__.lower()}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"


def _machine(device: torch.device) -> str:
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    # The node, too: a home folder may be shared by machines of different speed.
    words = [platform.node(), chip, torch.__version__, f"{torch.get_num_threads()}-threads"]
    return "-".join("".join(c if c.isalnum() else "_" for c in word) for word in words)


def _read(path: Path) -> list[Probe]:
    try:
        return [Probe(**each) for each in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def _write(path: Path, found: list[Probe]) -> list[Probe]:
    """Keep it; of several workers that measure at once the first has the word."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "w") as file:
            json.dump([vars(each) for each in found], file)
        try:
            os.link(temporary, path)
        except FileExistsError:
            if others := _read(path):
                return others
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        log.warning("what was measured cannot be kept, so each start measures anew: %s", error)
    return found


def _measure_all(model: NetworkModel, device: torch.device) -> list[Probe]:
    found = []
    for settings, shape in model.probes:
        size = model.size(settings, shape)
        on_device = Shape(**(vars(shape) | {"device": device}))
        ratio = measure(model, settings, on_device, PROBE_LANES)
        found.append(Probe(model.kind(settings), size.numbers, size.values, ratio))
    return found


def measure(model: NetworkModel, settings: Any, shape: Shape, lanes: int) -> float:
    """How many times faster the lanes train in one pass than one after another."""
    together = _Trial(model, settings, shape, lanes)
    apart = _Trial(model, settings, shape, 1)
    seconds: dict[str, list[float]] = {"together": [], "apart": []}
    for _ in range(PROBE_ROUNDS + 1):
        seconds["together"].append(together.seconds())
        seconds["apart"].append(lanes * apart.seconds())
    # The first round warms up.
    return statistics.median(seconds["apart"][1:]) / statistics.median(seconds["together"][1:])


class _Trial:
    """Some steps of a pass on made-up rows."""

    def __init__(self, model: NetworkModel, settings: Any, shape: Shape, lanes: int) -> None:
        rngs = [np.random.Generator(np.random.SFC64(lane)) for lane in range(lanes)]
        self._lanes, self._device = lanes, shape.device
        self._network = model.build([settings] * lanes, rngs, shape)
        network = self._network
        self._optimizer = optimizer(
            [settings] * lanes, network.parameters, network.rates, network.spans
        )
        self._inputs, self._target = _made_up(shape, lanes)

    def seconds(self) -> float:
        self._network.start_epoch([PROBE_STEPS] * self._lanes)
        self._wait()
        clock = self._clock()
        start = clock()
        for step in range(PROBE_STEPS):
            self._network.learn(step, self._inputs, self._target, 1 / PROBE_ROWS)
            self._optimizer.step(self._network.parameters, self._network.gradient)
        self._wait()
        return clock() - start

    def _clock(self) -> Callable[[], float]:
        """On one thread the processor's time: the wall's counts what else the machine does, and
        several workers may measure at once.
        """
        one_thread = self._device.type == "cpu" and torch.get_num_threads() == 1
        return time.process_time if one_thread else time.perf_counter

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _made_up(shape: Shape, lanes: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of the right form: numbers, codes, full lengths."""
    drawn = torch.Generator().manual_seed(0)
    inputs = torch.randn(lanes, PROBE_ROWS, shape.inputs, generator=drawn)
    if shape.symbols:
        inputs = inputs.abs().mul(1e6).floor().remainder(shape.symbols)
    elif len(shape.dims) == 2:
        inputs[:, :, -1] = shape.dims[0]
    if shape.task != "classification":
        target = torch.randn(lanes, PROBE_ROWS, shape.outputs, generator=drawn).to(shape.dtype)
    else:
        steps = (shape.dims[0],) if shape.per_step else ()
        places = (lanes, PROBE_ROWS, *steps)
        target = torch.randint(0, shape.outputs, places, generator=drawn)
    return inputs.to(shape.device, shape.dtype), target.to(shape.device)


# --- memory -----------------------------------------------------------------------------------


def _available() -> int:
    """Memory of the machine that may still be taken; a large number where it does not say."""
    try:
        with open("/proc/meminfo") as file:
            found = next(line for line in file if line.startswith("MemAvailable"))
        return int(found.split()[1]) * 1024
    except (OSError, StopIteration):
        return LARGE


def _below_limit() -> int:
    """What a control group leaves of its limit; a large number where there is none."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        folder = Path("/sys/fs/cgroup")
        try:
            return int((folder / limit).read_text()) - int((folder / used).read_text())
        except (OSError, ValueError):
            continue
    return LARGE
