"""Trees as plain arrays, and the leaves that rows come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workers.models.base import Arrays


@dataclass(frozen=True)
class Trees:
    """The nodes of all trees below each other.

    `roots` (trees,) say where each tree begins. Of each node: `children` (nodes, 2), where a row
    goes whose number in column `feature` (nodes,) is at most `threshold` (nodes,), and where others
    go; a leaf is both of its own children. `value` (nodes, outputs) of the leaves.
    """

    roots: NDArray[np.int64]
    children: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]

    @classmethod
    def of(cls, trees: Sequence[Self]) -> Self:
        """Several as one."""
        ends = np.cumsum([len(tree.feature) for tree in trees])
        starts = ends - [len(tree.feature) for tree in trees]
        moved = [tree.children + start for tree, start in zip(trees, starts, strict=True)]
        return cls(
            roots=starts,
            children=np.concatenate(moved).astype(np.int32),
            feature=np.concatenate([tree.feature for tree in trees]),
            threshold=np.concatenate([tree.threshold for tree in trees]),
            value=np.concatenate([tree.value for tree in trees]),
        )

    @classmethod
    def one(
        cls,
        left: NDArray[Any],
        right: NDArray[Any],
        leaf: NDArray[np.bool_],
        feature: NDArray[Any],
        threshold: NDArray[np.float64],
        value: NDArray[np.float64],
    ) -> Self:
        """A tree as scikit-learn keeps it; what it says of the children of leaves is ignored."""
        own = np.arange(len(leaf))[:, None]
        children = np.where(leaf[:, None], own, np.column_stack([left, right]))
        return cls(
            roots=np.zeros(1, dtype=np.int64),
            children=children.astype(np.int32),
            feature=np.where(leaf, 0, feature).astype(np.int32),
            threshold=np.where(leaf, 0.0, threshold),
            value=value,
        )

    @classmethod
    def restore(cls, arrays: Arrays) -> Self:
        """What `arrays` gave."""
        return cls(**{each.name: arrays[each.name] for each in fields(cls)})

    def arrays(self) -> Arrays:
        """All of it by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def values(self, inputs: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
        """For each tree the value of every row, (rows, outputs)."""
        rows = np.arange(len(inputs))
        for root in self.roots:
            at = np.full(len(inputs), root)
            for _ in self.feature:  # no way down is longer, whatever a file says
                beyond = inputs[rows, self.feature[at]] > self.threshold[at]
                below = self.children[at, beyond.astype(np.intp)]
                if np.array_equal(below, at):
                    break
                at = below
            yield self.value[at]
