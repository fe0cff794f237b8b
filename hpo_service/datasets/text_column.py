"""A column of texts as codes of its words or characters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from itertools import chain
from typing import TYPE_CHECKING

from hpo_service import errors, protocol
from hpo_service.datasets import body
from hpo_service.datasets.columns import Numeric
from hpo_service.datasets.csv_file import FIELD, quoted
from hpo_service.datasets.sheet import Sheet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Each symbol becomes an input of families that count them.
MAX_SYMBOLS = 5_000
MAX_STEPS = {"words": 256, "characters": 1_000}
# The symbol that stands for all that the data set has no symbol of its own for.
OTHER = ""

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def read(
    sheet: Sheet, name: str, symbols: protocol.Symbols, used: Collection[str] = ()
) -> body.Body:
    """The texts of a column; raises `InvalidRequest` where it has none.

    `used`: columns that are target or have a role.

    Words are lower-cased runs of letters and digits; characters are those of the text as it is.
    Symbols are sorted, the commonest `MAX_SYMBOLS` where there are more, and `OTHER` after them.
    """
    pieces = _split(sheet, name, symbols)
    known, notes = _vocabulary(pieces, symbols)
    length = min(max(map(len, pieces)), MAX_STEPS[symbols])
    cut = sum(len(row) > length for row in pieces)
    if cut:
        notes.append(f"{cut:,} texts have more than {length} {symbols}: cut after them.")
    empty = sum(not row for row in pieces)
    if empty:
        rows = "1 row has" if empty == 1 else f"{empty:,} rows have"
        notes.append(f"{rows} no {symbols} in {quoted(name)}: empty texts.")
    aside = [quoted(each) for each in sheet.columns if each != name and each not in used]
    if aside:
        notes.append(f"Not learnt from beside the text: {', '.join(aside)}.")
    origin = protocol.Origin(text=name, symbols=symbols)
    return body.Body(encode(pieces, known, length), [length], [], known, origin, notes)


def read_again(sheet: Sheet, schema: protocol.DatasetSchema) -> NDArray[np.int32]:
    """Another file's texts in a data set's own symbols: (rows, steps) codes."""
    origin, shape = schema.origin, schema.shape
    assert origin is not None
    assert shape is not None
    assert origin.text is not None
    assert origin.symbols is not None
    return encode(_split(sheet, origin.text, origin.symbols), schema.symbols, shape[0])


def encode(pieces: list[list[str]], symbols: list[str], length: int) -> NDArray[np.int32]:
    """(rows, length) codes, -1 after the end; what is no symbol is the last one, `OTHER`."""
    import numpy as np

    body.check_size(len(pieces), length)
    position = {symbol: code for code, symbol in enumerate(symbols)}
    other = position[OTHER]
    codes = np.full((len(pieces), length), -1, np.int32)
    for row, found in enumerate(pieces):
        codes[row, : len(found)] = [position.get(symbol, other) for symbol in found[:length]]
    return codes


def _split(sheet: Sheet, name: str, symbols: protocol.Symbols) -> list[list[str]]:
    column = sheet.column("text", name)
    assert not isinstance(column, Numeric), "read as text"
    # Split once for each different text; the last entry serves code -1.
    texts = [*column.texts, ""]
    split = [WORD.findall(t.lower()) if symbols == "words" else list(t) for t in texts]
    return [split[code] for code in column.codes.tolist()]


def _vocabulary(pieces: list[list[str]], symbols: protocol.Symbols) -> tuple[list[str], list[str]]:
    counts = Counter(chain.from_iterable(pieces))
    if not counts:
        raise errors.invalid("text", f"the column has no {symbols} in any row")
    common = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))[:MAX_SYMBOLS]
    rest = len(counts) - len(common)
    notes = [f"Text of {len(counts):,} different {symbols}."]
    if rest:
        notes.append(f"The rarest {rest:,} {symbols} are taken as one.")
    if len(counts) == 1:
        raise errors.invalid(FIELD, f"all texts are made of one of the {symbols}: nothing to learn")
    return [*sorted(common), OTHER], notes
