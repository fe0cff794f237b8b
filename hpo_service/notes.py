"""What a reader of a study's numbers should know, in plain language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from hpo_service import catalog, confirm, protocol
from hpo_service.selection import corrected_error

# The interval of an accuracy near 0.9 from fewer rows is wider than +-0.06.
FEW_ROWS = 100


def notes(
    final: protocol.Final,
    directions: Sequence[str],
    objective: protocol.TrainObjective | None,
    compared: int,
) -> list[str]:
    """Sentences for the result of a study, in which `compared` trials had their say."""
    first = final.winner
    if first is None:
        return ["No trial has completed, so there is no winner."]
    notes = []
    if len(directions) > 1:
        notes.append(
            "Several metrics are optimised: of the trials that no other one beats, the winner "
            "is the best by the first metric."
        )
    if objective is None:
        return notes
    notes.append(_optimism(objective, first, compared))
    notes += _about_fresh_folds(final, directions[0], objective.validation)
    if first.spread:
        notes.append(
            "The spread is the standard deviation over the folds: how much scores differ from "
            "fold to fold, not an interval for the true score."
        )
    notes += _about_held_out(objective, first, final)
    notes += [*_about_estimate(final), *_about_verdict(final)]
    return [*notes, *_about_ensemble(final), *_about_served(final)]


def about_pooled(told: Mapping[str, JsonValue]) -> list[str]:
    """How metrics came from their folds where that is not their mean; `told`: a trial's notes."""
    pooled = told.get("pooled")
    if not isinstance(pooled, list) or not pooled:
        return []
    return [
        f"Pooled: {', '.join(map(str, pooled))} come from the rows of all folds together, not from "
        "a mean of the folds, which are small, of different size or of weighted rows."
    ]


def _optimism(objective: protocol.TrainObjective, first: protocol.Scored, compared: int) -> str:
    note = (
        "The winner's cross-validated score is optimistic: it was chosen as the best of "
        f"{compared} trials on these very folds."
    )
    if not _epoch_was_chosen(objective, first):
        return note
    return (
        f"{note} So was its epoch, {first.epoch}, one for all folds: that alone adds about 0.02 "
        "to an accuracy on 200 rows (measured; 0.06 if each fold kept its own best epoch)."
    )


def _epoch_was_chosen(objective: protocol.TrainObjective, first: protocol.Scored) -> bool:
    family = catalog.FAMILIES.get(objective.model)
    if family is None or not family.network:
        return False
    return getattr(catalog.settings_of(family, first.params), "patience", 0) > 0


def _about_held_out(
    objective: protocol.TrainObjective, first: protocol.Scored, final: protocol.Final
) -> list[str]:
    if objective.holdout == 0:
        return [
            'No rows were held out ("holdout": 0): all of them were searched on, and there is no '
            "score of a network on rows that the search never saw."
        ]
    scores, made, uses = first.held_out, "refitted on all rows of the search", final.held_out_uses
    if final.served is not None and final.served.kind == "folds":
        scores, made = final.served.held_out, f"the folds' models as they were, baselines {made}"
    if not scores:
        return []
    rows = scores[0].rows
    note = (
        f"The held-out scores come from {rows:,} rows that no search worker was sent: {made}, "
        "each model was scored on them once."
    )
    if objective.outer is not None:
        note += (
            f" They are fold {objective.outer.fold} of {objective.outer.folds} of a nested "
            "cross-validation, whose estimate is the mean over all of them."
        )
    if uses > 1:
        note += (
            f" They have scored {uses} studies of this data by now: what was chosen among those "
            "scores is optimistic."
        )
    return [f"{note} So few rows leave wide intervals."] if rows < FEW_ROWS else [note]


def _about_fresh_folds(
    final: protocol.Final, direction: str, validation: protocol.Validation
) -> list[str]:
    first, others = final.winner, final.confirmed
    if first is None or first.fresh is None:
        return []
    count = len(first.fresh.folds[0]) if first.fresh.folds else 0
    notes = [
        f"The winner was chosen by its mean over {count} fresh folds, on which {len(others)} "
        "trials were trained anew with other seeds: the folds of the search had no say. That cost "
        f"{count * len(others)} trainings beside the search."
    ]
    default = next((each for each in others if each.default), None)
    return notes if default is None else [*notes, _gain(first, default, direction, validation)]


def about_selection(best: int | None, value: float, winner: int | None) -> list[str]:
    """Of a winner that the rule of one standard error selected, beside the best trial."""
    if best == winner:
        return ["The best trial is the smallest network within one standard error of itself."]
    return [
        "The winner is the smallest network within one corrected standard error of trial "
        f"{best}, which scored {value:.4f}."
    ]


def _about_estimate(final: protocol.Final) -> list[str]:
    found = final.estimate
    if found is None or found.kind == "held_out":
        return []
    return [
        f"What the chosen setting is worth: {found.metric} {_with_interval(found)}, from the "
        f"predictions of {found.rows:,} rows by networks that were not shown them, the luck of "
        "choosing taken out (bootstrap cross-validation, Tsamardinos et al. 2018)."
    ]


def _about_verdict(final: protocol.Final) -> list[str]:
    found = final.verdict
    if found is None:
        return []
    answers = {
        "better": f"Better than {found.baseline}, the best baseline",
        "not_better": f"Not better than {found.baseline}, the best baseline",
        "cannot_tell": f"This much data cannot tell whether it is better than {found.baseline}, "
        "the best baseline",
    }
    known = [f"{found.metric} differs by {found.difference:+.4g}"]
    if found.low is not None and found.high is not None:
        known.append(f"95 % interval {found.low:+.4g} to {found.high:+.4g}")
    if found.answer == "cannot_tell" and found.detectable is not None:
        known.append(
            f"a true difference of {found.detectable:.2g} would have shown four times in 5"
        )
    return [f"{answers[found.answer]}: {', '.join(known)} ({found.test} test on fresh folds)."]


def _about_ensemble(final: protocol.Final) -> list[str]:
    found = final.ensemble
    if found is None or found.kind == "single":
        return []
    said = f"{found.metric} {found.score:.4f} as {_how(found)}, {found.alone:.4f} alone"
    error = found.standard_error
    if error is not None:
        said += f", corrected standard error of the difference {error:.2g}"
    return [f"The best trials together: {said} (each fold scored with what was chosen on others)."]


def _how(found: protocol.Ensemble) -> str:
    how = "the average" if found.kind == "average" else "a weighted mean"
    return f"{how} of {len(found.weights)}"


def _about_served(final: protocol.Final) -> list[str]:
    """What the study's model is and why; what there is to say of its score."""
    served, ensemble = final.served, final.ensemble
    if served is None:
        return []
    what, score = "the winner, refitted on all rows of the search", ""
    if served.kind == "folds":
        what = "the mean of the models that the winner's folds left in the search"
        score = "" if served.held_out else " No rows are held out to score them together."
    elif served.kind == "ensemble" and ensemble is not None:
        what = f"{_how(ensemble)} trials, each refitted on all rows of the search"
        score = "" if served.held_out else _optimistic(ensemble)
    return [f"Served is {what}, since {served.reason}.{score}"]


def _optimistic(ensemble: protocol.Ensemble) -> str:
    return (
        f" No rows are held out to score it. On folds left out its {ensemble.metric} is "
        f"{ensemble.score:.4f}, which is optimistic: its members were chosen on the same folds."
    )


def _with_interval(found: protocol.Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.4f}"
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def _gain(
    first: protocol.Scored,
    default: protocol.Scored,
    direction: str,
    validation: protocol.Validation,
) -> str:
    """What tuning gained over the default, on the same fresh folds."""
    if first.number == default.number:
        return "Tuning did not beat the family's default, which did best on the fresh folds."
    assert first.fresh is not None
    assert default.fresh is not None
    sign = 1.0 if direction == "maximize" else -1.0
    gain = sign * (first.fresh.values[0] - default.fresh.values[0])
    error = _standard_error(first.fresh, default.fresh, validation)
    if error is None:
        return f"Tuning gained {gain:.4g} over the family's default on the fresh folds."
    return (
        f"Tuning gained {gain:.4g} over the family's default on the fresh folds (standard error "
        f"{error:.2g}, corrected for training sets that overlap: Nadeau and Bengio 2003)."
    )


def _standard_error(
    one: protocol.Fresh, other: protocol.Fresh, validation: protocol.Validation
) -> float | None:
    """Of the mean difference over folds whose training rows overlap."""
    pairs = zip(*(each.folds[0] if each.folds else [] for each in (one, other)), strict=True)
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    share = confirm.scored_share(validation)
    error = corrected_error(differences, share / (1 - share))
    return None if math.isnan(error) else error
