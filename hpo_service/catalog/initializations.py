"""Names of the weight initializations; `workers.models.initializations` has one function each.

`xavier` is also known as Glorot, `he` as Kaiming.
"""

from __future__ import annotations

from typing import Literal

Initialization = Literal[
    "zeros",
    "normal",
    "uniform",
    "xavier_uniform",
    "xavier_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
    "orthogonal",
]
