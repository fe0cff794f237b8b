"""Texts: the English prose that scikit-learn carries to describe its data sets.

A release of scikit-learn that rewrites them changes these data sets too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpo_service import protocol
from hpo_service.datasets.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHARACTERS = 64
# A longer sentence is cut; a shorter one than the least says too little.
MOST_WORDS, FEWEST_WORDS = 40, 4
# Descriptions with fewer sentences are left out, so that every class can be cross-validated.
FEWEST_SENTENCES = 20


def next_characters() -> Table:
    """Pieces of the text in lower case; for each character, the one that follows it."""
    import numpy as np

    text = " ".join(" ".join(_descriptions().values()).lower().split())
    symbols = sorted(set(text))
    position = {symbol: code for code, symbol in enumerate(symbols)}
    codes = np.array([position[symbol] for symbol in text])
    pieces = (len(codes) - 1) // CHARACTERS
    inputs, following = (
        codes[start : start + pieces * CHARACTERS].reshape(pieces, CHARACTERS) for start in (0, 1)
    )
    schema = protocol.DatasetSchema(
        task="classification",
        rows=pieces,
        columns=[],
        target=["next character"],
        classes=symbols,
        shape=[CHARACTERS],
        symbols=symbols,
        per_step=True,
    )
    return _table(schema, inputs, following)


def sentences() -> Table:
    """Sentences as words in lower case, to be told which description each is from."""
    import numpy as np

    by_text = {name: _sentences(text) for name, text in _descriptions().items()}
    by_text = {name: found for name, found in by_text.items() if len(found) >= FEWEST_SENTENCES}
    rows = [(code, words) for code, found in enumerate(by_text.values()) for words in found]
    symbols = sorted({word for _, words in rows for word in words})
    position = {word: code for code, word in enumerate(symbols)}
    inputs = np.full((len(rows), MOST_WORDS), -1)
    for at, (_, words) in enumerate(rows):
        inputs[at, : len(words)] = [position[word] for word in words]
    schema = protocol.DatasetSchema(
        task="classification",
        rows=len(rows),
        columns=[],
        target=["description"],
        classes=list(by_text),
        shape=[MOST_WORDS],
        symbols=symbols,
    )
    return _table(schema, inputs, np.array([code for code, _ in rows]))


def _descriptions() -> dict[str, str]:
    """The texts by name, sorted."""
    from importlib import resources

    files = resources.files("sklearn.datasets.descr").iterdir()
    texts = {file.name: file.read_text("utf-8") for file in files if file.name.endswith(".rst")}
    return {name.removesuffix(".rst"): texts[name] for name in sorted(texts)}


def _sentences(text: str) -> list[list[str]]:
    pieces = re.split(r"(?<=[.:?!])\s+|\n\s*\n", text.lower())
    found = [re.findall(r"[a-z]+", piece)[:MOST_WORDS] for piece in pieces]
    return [words for words in found if len(words) >= FEWEST_WORDS]


def _table(
    schema: protocol.DatasetSchema, codes: NDArray[np.int64], target: NDArray[np.int64]
) -> Table:
    import numpy as np

    return Table(
        schema=schema,
        numeric=np.empty((schema.rows, 0)),
        categorical=codes.astype(np.int32),
        target=target.astype(np.int64),
    )
