"""Generated rows for people to look at: a picture of images, a CSV file of rows."""

from __future__ import annotations

import csv
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hpo_service import protocol
from workers.data.layouts import Channels, Columns
from workers.data.parts import Part

Floats = NDArray[np.float64]

TILES = 8  # images in each direction
PIXELS = 512  # of the picture, about
LINE = 0.5
TABLE_ROWS = 200


def count(schema: protocol.DatasetSchema) -> int:
    """How many rows to generate for `samples`."""
    return TILES**2 if schema.kind == "image" else TABLE_ROWS


def samples(rows: Floats, part: Part, schema: protocol.DatasetSchema) -> tuple[str, bytes]:
    """Name and bytes of a file that shows rows, (rows, columns) as networks see them.

    Images: a PNG of 8 by 8, from the darkest to the brightest value of the training rows. A table:
    a CSV with the columns of the data set, in its units and categories.
    """
    if schema.kind == "image":
        return "samples.png", _picture(rows, part, schema)
    return "samples.csv", _table(rows, part, schema)


def _picture(rows: Floats, part: Part, schema: protocol.DatasetSchema) -> bytes:
    assert schema.shape
    real = _pixels(part.train_inputs, part, schema.shape)
    low, high = real.min(), real.max()
    shown = ((_pixels(rows, part, schema.shape) - low) / max(high - low, 1e-12)).clip(0, 1)
    if schema.shape[0] != 3:
        # Other numbers of channels have no colours: the first one, in grey.
        shown = np.repeat(shown[:, :1], 3, axis=1)
    # A line after each image: those that fill their frame would run into each other.
    shown = np.pad(shown, [(0, 0), (0, 0), (0, 1), (0, 1)], constant_values=LINE)
    height, width = shown.shape[2:]
    grid = shown.reshape(TILES, TILES, 3, height, width).transpose(0, 3, 1, 4, 2)
    grid = grid.reshape(TILES * height, TILES * width, 3)
    larger = max(1, PIXELS // max(grid.shape))
    out = io.BytesIO()
    shades = (255 * grid).round().astype(np.uint8)
    Image.fromarray(shades.repeat(larger, 0).repeat(larger, 1)).save(out, "png")
    return out.getvalue()


def _pixels(rows: Floats, part: Part, shape: list[int]) -> Floats:
    """Images in their own scale, (rows, channels, height, width)."""
    encoder = part.preprocessing.encoder
    assert isinstance(encoder, Channels)
    scaled = rows.reshape(len(rows), *shape)
    found: Floats = scaled * encoder.scales[:, None, None] + encoder.means[:, None, None]
    return found


def _table(rows: Floats, part: Part, schema: protocol.DatasetSchema) -> bytes:
    encoder = part.preprocessing.encoder
    assert isinstance(encoder, Columns)
    numbers = iter(_numbers(rows, encoder, part.train_inputs).T)
    blocks = iter(encoder.blocks)
    columns = []
    for column in schema.columns:
        if column.kind == "numeric":
            columns.append([f"{value:.6g}" for value in next(numbers)])
        else:
            start, stop = next(blocks)
            columns.append(_categories(rows[:, start:stop], column.categories))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in schema.columns])
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue().encode()


def _numbers(rows: Floats, encoder: Columns, real: Floats) -> Floats:
    """Numeric columns in their units; those that have whole numbers only, rounded."""
    count = len(encoder.means)
    found = rows[:, :count] * encoder.scales + encoder.means
    known = real[:, :count] * encoder.scales + encoder.means
    whole = np.abs(known - known.round()).max(0, initial=0) < 1e-6
    rounded: Floats = np.where(whole, found.round(), found)
    return rounded


def _categories(block: Floats, names: list[str]) -> list[str]:
    if not names:
        return [""] * len(block)
    return [names[at] for at in block.argmax(1)]
