"""Where randomness comes from: every seed derives from the study's and a name, never from time.

A trial's seed depends on the study seed and its number alone, so each attempt of a trial, on
whatever worker, starts alike.
"""

from __future__ import annotations

import hashlib


def trial_seed(study_seed: int, number: int) -> int:
    """The randomness of the numbered trial `number`: 0 to 2**63 - 1."""
    return _derive(study_seed, f"trial {number}")


def baseline_seed(study_seed: int, family: str) -> int:
    """The randomness of a study's baseline row of model family `family`: 0 to 2**63 - 1."""
    return _derive(study_seed, f"baseline {family}")


def confirm_seed(study_seed: int, of: int | str) -> int:
    """The randomness of the confirm row of trial number or baseline `of`: 0 to 2**63 - 1."""
    return _derive(study_seed, f"confirm {of}")


def fresh_folds_seed(study_seed: int) -> int:
    """What shuffles the folds of all confirm rows of a study: 0 to 2**31 - 1."""
    return _derive(study_seed, "fresh folds") % 2**31


def sampler_seed(study_seed: int, number: int) -> int:
    """The randomness of the sampler that proposes trial `number`: 0 to 2**32 - 1, for NumPy."""
    return _derive(study_seed, f"sampler {number}") % 2**32


def _derive(study_seed: int, name: str) -> int:
    digest = hashlib.sha256(f"{study_seed} {name}".encode()).digest()
    # 63 bits: the largest number that our JSON and SQL carry.
    return int.from_bytes(digest[:8], "big") >> 1
