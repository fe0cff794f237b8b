"""The networks that a trial trained on its folds, kept so that they can be served as they are.

A trial's file has 4 bytes for each number of each fold's network, and its preprocessing again for
each fold: 0.5 MB for five networks 64-128-128-10.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpo_service import protocol
from workers.models import MODELS, NetworkModel, storing
from workers.models.base import Arrays
from workers.training import out_of_fold
from workers.training.folds import Folds
from workers.training.trial import Trial

# More of them, or more numbers of a trial, are not kept.
MOST_NETWORKS = 100
MOST_NUMBERS = 50_000_000


def wanted(lease: protocol.TrialLease, folds: Folds) -> bool:
    """Whether the study may serve the networks of this trial's folds."""
    objective = lease.objective
    asked = isinstance(objective, protocol.TrainObjective) and objective.serve == "folds"
    few = len(folds.scored) <= MOST_NETWORKS and len(folds.optimised) == 1
    return asked and lease.kind == "search" and few and out_of_fold.kept(folds)


def pack(trial: Trial, folds: Folds, networks: Sequence[Arrays], epoch: int | None) -> bytes | None:
    """A model whose members are the networks of all folds alike; None where they are too large."""
    if sum(array.size for arrays in networks for array in arrays.values()) > MOST_NUMBERS:
        return None
    model = MODELS[trial.family.name]
    layout = model.layout if isinstance(model, NetworkModel) else "columns"
    parts = folds.parts(layout, trial.inner)
    lease = trial.lease
    member = protocol.ModelMember(
        params=lease.params,
        epochs=epoch,
        seed=lease.seed,
        number=lease.number,
        weight=1 / len(parts),
    )
    card = protocol.ModelCard(
        family=trial.family.name,
        params=lease.params,
        epochs=epoch,
        seed=lease.seed,
        layout=layout,
        schema=folds.dataset.schema,
        members=[member] * len(parts),
    )
    together = zip(networks, parts, strict=True)
    return storing.pack(card, [storing.whole(own, part.preprocessing) for own, part in together])
