"""A folder of images as one NPZ file, packed where the folder lies: no server unpacks archives."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_service import errors
from hpo_service.datasets.csv_file import MAX_CELLS, quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

FIELD = "folder"
# Height and width where the images differ in size and the caller names none.
SIDE = 32
# Of folders that are called so the parts of a data set are meant, not its classes.
PARTS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))


@dataclass(frozen=True)
class Packed:
    """`data`: an NPZ file of `x` uint8 (images, height, width, channels) and, where the folder has
    a folder of images for each class, `y` the classes' names; `files` in the same order.
    """

    data: bytes
    files: list[Path]
    classes: set[str]
    note: str


def pack(folder: Path, size: tuple[int, int] | None = None, channels: int | None = None) -> Packed:
    """Read all images below a folder, in the order of their names, and make them one size.

    The class of an image is the folder it lies in, one level below `folder`. `size` is (height,
    width); unset, that of the images if they have one, else 32 by 32. `channels`: 1 grey or 3
    colours; unset, 1 if no image has colours. Raises `InvalidRequest` where there is no image, or
    a file is none that can be read.
    """
    import numpy as np

    files, classes = _files(folder)
    sizes = {_opened(file).size for file in files}
    height, width = size or _common_size(sizes)
    channels = channels or max(map(_channels, files))
    if len(files) * height * width * channels > MAX_CELLS:
        raise errors.invalid(
            FIELD,
            f"{len(files):,} images of {height}x{width} pixels are too much: name a smaller size",
        )
    pixels = np.stack([_pixels(file, height, width, channels) for file in files])
    buffer = io.BytesIO()
    if classes:
        np.savez_compressed(buffer, x=pixels, y=np.array(classes))
    else:
        np.savez_compressed(buffer, x=pixels)
    note = (
        f"{len(files):,} images of {len(set(classes)) or 'no'} classes, "
        f"{height}x{width} pixels, {'grey' if channels == 1 else 'in colour'}."
    )
    if sizes != {(width, height)}:
        note += f" They were of {len(sizes):,} sizes and made that one."
    return Packed(buffer.getvalue(), files, set(classes), note)


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    """Images and their classes; no classes where the images lie in the folder itself."""
    from PIL import Image

    # Some formats, such as PDF, are written and not read.
    known = {end for end, name in Image.registered_extensions().items() if name in Image.OPEN}
    images = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file()
    )
    if not images:
        raise errors.invalid(FIELD, f"{str(folder)!r} has no images in it")
    below = [path.relative_to(folder).parts for path in images]
    depths = {len(parts) > 1 for parts in below}
    if len(depths) > 1:
        loose = next(parts[0] for parts in below if len(parts) == 1)
        raise errors.invalid(FIELD, f"image {quoted(loose)} lies in no folder of a class")
    return images, [parts[0] for parts in below if len(parts) > 1]


def check_classes(folder: Path, classes: set[str]) -> None:
    """Refuse images without a class, and folders whose own folders are the classes."""
    if not classes:
        raise errors.invalid(
            FIELD, f"the images of {str(folder)!r} lie in no folders: make one for each class"
        )
    if {name.lower() for name in classes} <= PARTS:
        first = max(classes, key=lambda name: name.lower().startswith("train"))
        raise errors.invalid(
            FIELD,
            f"{' and '.join(map(quoted, sorted(classes)))} are parts of a data set and no classes: "
            f"take the folder whose folders are the classes, such as {str(folder / first)!r}",
        )


def _opened(file: Path) -> Image.Image:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            # Cameras store how they were held; the picture is turned as one sees it.
            return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise errors.invalid(
            FIELD,
            f"{str(file)!r} is no image that can be read, repair or remove it: {error}",
        ) from None


def _common_size(sizes: set[tuple[int, int]]) -> tuple[int, int]:
    width, height = next(iter(sizes)) if len(sizes) == 1 else (SIDE, SIDE)
    return height, width


def _channels(file: Path) -> int:
    return 1 if _opened(file).mode in ("1", "L", "LA", "I", "I;16", "F") else 3


def _pixels(file: Path, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    image = _opened(file)
    if image.mode.startswith(("I", "F")):
        # 16 bits and more a pixel: Pillow would cut off what lies above 255.
        values = np.asarray(image, np.float64)
        low, high = values.min(), values.max()
        image = Image.fromarray(np.uint8((values - low) / max(high - low, 1e-12) * 255))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(height, width, channels)
