"""Which model a study serves: the winner, an ensemble of its best trials, or the winner's folds.

That is decided by what networks said of search rows that they were not shown, before the held-out
rows are opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpo_service import catalog, protocol
from workers import findings, measured
from workers.data.dataset import Dataset
from workers.findings import Said
from workers.work import Work

WINNER, SERVED = "winner", "served"


@dataclass(frozen=True)
class Choice:
    """What is served, why, and how the best trials would score together, where that is known.

    `networks`: the stored model of the winner's folds, where that is served.
    """

    served: protocol.Served
    ensemble: protocol.Ensemble | None = None
    networks: Path | None = None

    def shares(self, lease: protocol.TrialLease) -> list[tuple[protocol.ModelSetting, float]]:
        """What to refit and its share of the mean that is served, the largest first."""
        if self.served.kind == "single":
            return [(each, 1.0) for each in lease.refits if each.name == WINNER]
        if self.ensemble is None or not self.ensemble.served:
            return []
        weights = self.ensemble.weights
        found = [(each, weights.get(str(each.number), 0.0)) for each in lease.members]
        return sorted((each for each in found if each[1] > 0), key=lambda each: -each[1])


def single(reason: str, ensemble: protocol.Ensemble | None = None) -> Choice:
    """The winner, refitted."""
    return Choice(protocol.Served(kind="single", reason=reason), ensemble)


def decide(
    lease: protocol.TrialLease,
    work: Work,
    said: Sequence[Said],
    data: Dataset,
    optimised: Sequence[str],
) -> Choice:
    """What the study asks for, where that can be formed."""
    serve = measured.objective(lease).serve
    try:
        ensemble = findings.of_ensemble(said, data, lease, optimised[0])
    except findings.NoEnsemble as why:
        ensemble, missing = None, str(why)
    if serve == "folds":
        return _of_folds(lease, work, ensemble)
    if serve == "single":
        return single("the study asks for it", ensemble)
    if len(optimised) > 1:
        return single("several metrics are optimised", ensemble)
    if ensemble is None:
        return single(f"an ensemble cannot be formed: {missing}")
    if serve == "ensemble":
        return _together("the study asks for it", ensemble)
    return _best(ensemble, held_out=work.holdout is not None)


def _of_folds(lease: protocol.TrialLease, work: Work, ensemble: protocol.Ensemble | None) -> Choice:
    if lease.networks is None or lease.networks not in work.predictions:
        return single(
            "the models of its folds were not kept, as they are for one metric, one answer a row "
            "and at most 100 folds that are not too large",
            ensemble,
        )
    served = protocol.Served(kind="folds", reason="the study asks for it")
    return Choice(served, ensemble, work.predictions[lease.networks])


def _best(ensemble: protocol.Ensemble, *, held_out: bool) -> Choice:
    if not held_out:
        return single("no rows are held out that could score an ensemble", ensemble)
    if not beats(ensemble):
        return single(
            "an ensemble of the best trials does not beat one by more than a corrected standard "
            "error on the rows of the search",
            ensemble,
        )
    return _together(
        "it beats one trial by more than a corrected standard error on the rows of the search",
        ensemble,
    )


def beats(ensemble: protocol.Ensemble) -> bool:
    """Whether several members score better than the best alone by more than one standard error of
    the paired differences by fold.
    """
    error = ensemble.standard_error
    if error is None or len(ensemble.weights) < 2:
        return False
    maximized = catalog.METRICS[ensemble.metric].direction == "maximize"
    gain = ensemble.score - ensemble.alone
    return (gain if maximized else -gain) > error


def _together(reason: str, ensemble: protocol.Ensemble) -> Choice:
    served = protocol.Served(kind="ensemble", reason=reason)
    return Choice(served, ensemble.model_copy(update={"served": True}))
