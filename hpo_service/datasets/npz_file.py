"""An NPZ file as uploaded: arrays by name. Nothing in it is ever unpickled or written to disk."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

from hpo_service import errors
from hpo_service.datasets.csv_file import FIELD, MAX_CELLS, quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"PK\x03\x04"
MAX_ARRAYS = 100
# Of all arrays together, as numbers of float64.
MAX_BYTES = 8 * MAX_CELLS
SUFFIX = ".npy"
# Truth values, whole numbers, floating-point numbers, texts and bytes.
KINDS = "biufUS"
_BROKEN = (
    zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError, OSError
)  # fmt: skip


def read(data: bytes) -> dict[str, NDArray[Any]]:
    """All arrays; raises `InvalidRequest` for what is none, or unfolds to too much.

    A file of a kilobyte can unfold to terabytes. So the sizes it declares are looked at first, and
    an array is read only if its header asks for exactly the bytes that are there.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check(entries)
            return {
                entry.filename.removesuffix(SUFFIX): _array(archive, entry) for entry in entries
            }
    except _BROKEN as error:
        raise errors.invalid(FIELD, f"is no NPZ file that can be read: {error}") from None


def _check(entries: list[zipfile.ZipInfo]) -> None:
    if any(entry.filename == "[Content_Types].xml" for entry in entries):
        raise errors.invalid(FIELD, "is a workbook of Excel: save it as CSV in UTF-8")
    if not entries or any(not entry.filename.endswith(SUFFIX) for entry in entries):
        raise errors.invalid(
            FIELD, "is an archive of other things than arrays: write it with numpy.savez_compressed"
        )
    if len(entries) > MAX_ARRAYS:
        raise errors.invalid(FIELD, f"has {len(entries):,} arrays: {MAX_ARRAYS} are the most")
    size = sum(entry.file_size for entry in entries)
    if size > MAX_BYTES:
        raise errors.invalid(
            FIELD, f"unfolds to {size:,} bytes: {MAX_BYTES:,} are the most, take a sample of it"
        )


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    import numpy as np

    name = quoted(entry.filename.removesuffix(SUFFIX))
    with archive.open(entry) as file:
        shape, dtype = _header(file)
        if dtype.hasobject:
            raise errors.invalid(
                FIELD,
                f"array {name} holds Python objects, which are never unpickled: "
                "make it an array of numbers or of texts",
            )
        if dtype.kind not in KINDS:
            raise errors.invalid(FIELD, f"array {name} holds {dtype}: numbers or texts are read")
        if math.prod(shape) * dtype.itemsize != entry.file_size - file.tell():
            raise errors.invalid(FIELD, f"array {name} is not of the size that it says")
    with archive.open(entry) as file:
        found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return found


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], Any]:
    """Shape and type that an array's header declares."""
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of its arrays is not known")
    return shape, dtype
