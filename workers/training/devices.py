"""Where to compute, and whether it had enough memory."""

from __future__ import annotations

import gc

import torch

from workers.work import Precision


def resolve(name: str) -> str:
    """The device meant by `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`.

    Raises `ValueError` with what to do where this machine has no such device.
    """
    gpus = torch.cuda.device_count()
    if name == "auto":
        return "cuda" if gpus else "cpu"
    found = torch.device(name)
    if found.type == "cuda" and (found.index or 0) >= gpus:
        raise ValueError(f"there is no device {name} here ({gpus} GPUs seen): use --device cpu")
    return name


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of the machine or of the device was not enough."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU allocator of torch raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)


def free() -> None:
    """Give back what is kept in reserve, before less is asked for."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def set_precision(precision: Precision) -> None:
    """How exactly a GPU multiplies from now on; `mixed`: with factors of 10 bits (TF32), which
    tensor cores do several times faster. Sums, weights and all else stay float32.
    """
    mixed = precision == "mixed"
    torch.set_float32_matmul_precision("high" if mixed else "highest")
    torch.backends.cudnn.allow_tf32 = mixed
