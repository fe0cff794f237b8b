"""From a spec as a user wrote it to a checked plan: all that can be wrong is found here.

Nothing is stored but the two data blobs, which lie under their hash and do no harm unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from hpo_service import (
    beginning,
    budgets,
    catalog,
    constraints,
    datasets,
    errors,
    judging,
    protocol,
    selection,
    shares,
    space,
)
from hpo_service.artifacts import Blobs
from hpo_service.catalog.family import Family
from hpo_service.pruners import PRUNERS
from hpo_service.samplers import SAMPLERS

Params = dict[str, protocol.FixedValue]
Space = dict[str, protocol.Distribution]


@dataclass(frozen=True)
class Plan:
    """A spec with everything filled in, its directions, data blobs and baseline families.

    `first`: the parameters of the trials to begin with, under the names of the space; `default`:
    whether that is the family's default. `function`: the name of the user's own function.
    """

    spec: protocol.StudySpec
    directions: list[protocol.Direction]
    search_sha256: str | None = None
    holdout_sha256: str | None = None
    baselines: tuple[str, ...] = ()
    first: tuple[space.Params, ...] = ()
    default: bool = False
    function: str | None = None


def plan(session: Session, blobs: Blobs, spec: protocol.StudySpec) -> Plan:
    """Check the spec against catalog, data and plug-ins; raises `InvalidRequest`."""
    _check_known("pruner", PRUNERS, spec.pruner)
    if spec.select != "fresh_folds" and not isinstance(spec.objective, protocol.TrainObjective):
        raise errors.invalid("select", "is a rule for networks of the catalog: leave it out")
    if isinstance(spec.objective, protocol.ExternalObjective):
        made = _plan_external(spec, spec.objective)
    elif isinstance(spec.objective, protocol.CustomObjective):
        made = _plan_custom(session, blobs, spec, spec.objective)
    else:
        made = _plan_train(session, blobs, spec, spec.objective)
    _check_plugins(made)
    first, default = beginning.of(made.spec)
    return replace(made, first=first, default=default)


def _plan_external(spec: protocol.StudySpec, objective: protocol.ExternalObjective) -> Plan:
    if spec.search_space is None:
        raise errors.invalid("search_space", "an external study needs one: nobody else knows it")
    space.check(spec.search_space)
    return Plan(spec=spec, directions=objective.directions)


def _plan_custom(
    session: Session, blobs: Blobs, spec: protocol.StudySpec, objective: protocol.CustomObjective
) -> Plan:
    if spec.search_space is None:
        raise errors.invalid(
            "search_space", "a study of your own function needs one: nobody else knows it"
        )
    _refuse_fixed(spec.search_space, objective.params)
    catalog.check_labels(spec.search_space)
    space.check(spec.search_space)
    plain = Plan(spec=spec, directions=objective.directions, function=objective.name)
    if objective.dataset is None:
        _refuse_without_data(objective)
        return plain
    prepared = datasets.prepare(
        session, blobs, objective.dataset, objective.holdout, objective.validation
    )
    filled = objective.model_copy(update={"validation": prepared.validation})
    return replace(
        plain,
        spec=spec.model_copy(update={"objective": filled}),
        search_sha256=prepared.search_sha256,
        holdout_sha256=prepared.holdout_sha256,
    )


def _refuse_without_data(objective: protocol.CustomObjective) -> None:
    """What says how rows are used, where there are none."""
    for name in ("validation", "holdout"):
        default = protocol.CustomObjective.model_fields[name].default
        if getattr(objective, name) != default:
            raise errors.invalid(
                f"objective.{name}", "means nothing without objective.dataset: leave it out"
            )


def _refuse_fixed(searched: Space, fixed: Params) -> None:
    for name in searched:
        if catalog.plain(name) in fixed:
            raise errors.invalid(
                f"search_space.{name}", "stands in objective.params too: fix it or search it"
            )


def _plan_train(
    session: Session, blobs: Blobs, spec: protocol.StudySpec, objective: protocol.TrainObjective
) -> Plan:
    family = _family(objective.model)
    if objective.outer is not None and objective.holdout is not None:
        raise errors.invalid("objective.holdout", "an outer fold is held out already: leave it out")
    prepared = datasets.prepare(
        session,
        blobs,
        objective.dataset,
        objective.holdout,
        objective.validation,
        fold=objective.outer,
        corrected="generation" not in family.tasks and len(objective.metrics or [""]) == 1,
    )
    task = catalog.task_of(family, prepared.schema.task)
    _check_fits(family, objective.dataset, prepared.schema)
    searched = _search_space(spec, objective, family)
    for field, share in shares.lowest(family, objective.params, searched):
        datasets.check_share(field, share, prepared)
    metrics = objective.metrics or [_default_metric(task)]
    least = prepared.least_target
    directions = [_metric(f"objective.metrics.{i}", m, task, least) for i, m in enumerate(metrics)]
    for i, name in enumerate(objective.record):
        _metric(f"objective.record.{i}", name, task, least)
    _refuse_cost_alone(metrics, task)
    record = _recorded(spec, objective, metrics)
    _refuse_repeats("objective.metrics", [*metrics, *objective.record])
    filled = objective.model_copy(
        update={
            "metrics": metrics,
            "record": record,
            "validation": prepared.validation,
            "holdout": prepared.holdout,
        }
    )
    return Plan(
        spec=spec.model_copy(update={"objective": filled, "search_space": searched}),
        directions=directions,
        search_sha256=prepared.search_sha256,
        holdout_sha256=prepared.holdout_sha256,
        baselines=_baselines(objective, prepared.schema, task),
    )


def _recorded(
    spec: protocol.StudySpec, objective: protocol.TrainObjective, metrics: list[str]
) -> list[str]:
    """What is measured only: the rule of one standard error asks for the size of each network."""
    if spec.select != "one_standard_error":
        return objective.record
    if len(metrics) > 1:
        raise errors.invalid("select", "one_standard_error is a rule for one metric")
    return list(dict.fromkeys([*objective.record, selection.SIZE]))


def _family(name: str) -> Family:
    if name not in catalog.FAMILIES:
        known = ", ".join(catalog.FAMILIES)
        raise errors.invalid("objective.model", f"unknown family {name!r}: take one of {known}")
    return catalog.FAMILIES[name]


def _check_fits(family: Family, dataset: str, schema: protocol.DatasetSchema) -> None:
    misfit = _misfit(family, schema)
    if misfit is None:
        return
    does, asked = misfit
    fitting = ", ".join(f.name for f in catalog.FAMILIES.values() if _misfit(f, schema) is None)
    advice = f"take one of {fitting}" if fitting else "no family does yet"
    raise errors.invalid(
        "objective.model", f"{family.name} does {does}, but {dataset} is {asked}: {advice}"
    )


def _misfit(family: Family, schema: protocol.DatasetSchema) -> tuple[str, str] | None:
    """What the family does and what the data is, where that is not the same."""
    if catalog.task_of(family, schema.task) not in family.tasks:
        return " and ".join(family.tasks), schema.task
    if schema.kind not in family.kinds:
        return f"data of kind {' and '.join(family.kinds)}", schema.kind
    # What makes rows leaves the target aside.
    generates = catalog.task_of(family, schema.task) == "generation"
    if schema.per_step and not family.per_step and not generates:
        return f"one {schema.task} per row", f"a {schema.task} of every step"
    return None


def _search_space(
    spec: protocol.StudySpec, objective: protocol.TrainObjective, family: Family
) -> Space:
    _check_fixed(family, objective.params)
    given = spec.search_space
    if given is None:
        default = {
            name: distribution
            for name, distribution in family.default_space.items()
            if catalog.plain(name) not in objective.params
        }
        searched = _settle_conditions(default, objective.params, family, refuse=False)
    else:
        _refuse_fixed(given, objective.params)
        searched = _settle_conditions(given, objective.params, family, refuse=True)
    if not searched:
        raise errors.invalid("search_space", "nothing is left to search: every name is fixed")
    catalog.check_space(family, searched)
    space.check(searched)
    for name in searched:
        if catalog.plain(name) in ("epochs", "iterations"):
            _check_lengths(f"search_space.{name}", spec.pruner.name)
    return searched


def _check_lengths(field: str, pruner: str) -> None:
    """Trials of different length have to be let alone, or to be compared with their like."""
    if not PRUNERS[pruner].any_length:
        fair = ", ".join(name for name, entry in PRUNERS.items() if entry.any_length)
        raise errors.invalid(
            field,
            f"{pruner} cannot compare trials of different length fairly: fix it, or take the "
            f"pruner {fair}",
        )


def _check_fixed(family: Family, params: Params) -> None:
    """The catalog names `params.epochs`; in a study that stands below `objective`."""
    for name in params:
        if catalog.plain(name) != name:
            message = f"only a range has a label: fix {catalog.plain(name)!r}"
            raise errors.invalid(f"objective.params.{name}", message)
    try:
        catalog.settings_of(family, params)
    except errors.InvalidRequest as error:
        raise error.below("objective.params", "params") from None


def _settle_conditions(given: Space, fixed: Params, family: Family, *, refuse: bool) -> Space:
    """Decide every `when` on a parameter that is fixed (or left at the family's default)."""
    known: Params = family.hyperparameters().model_dump() | fixed
    settled: Space = {}
    for name, distribution in given.items():
        open_: dict[str, list[protocol.ParamValue]] = {}
        for parent, values in (distribution.when or {}).items():
            if parent in given or parent not in known:
                open_[parent] = values
            elif known[parent] not in values:
                if refuse:
                    raise errors.invalid(
                        f"search_space.{name}.when.{parent}",
                        f"never true: {parent} is {known[parent]!r} in every trial",
                    )
                break
        else:
            settled[name] = distribution.model_copy(update={"when": open_ or None})
    return settled


def _default_metric(task: protocol.StudyTask) -> str:
    return next(m.name for m in catalog.METRICS.values() if m.default and task in m.tasks)


def _metric(
    field: str, name: str, task: protocol.StudyTask, least_target: float | None
) -> protocol.Direction:
    metric = catalog.METRICS.get(name)
    fitting = ", ".join(m.name for m in catalog.METRICS.values() if task in m.tasks)
    if metric is None:
        raise errors.invalid(field, f"unknown metric {name!r}: take one of {fitting}")
    if task not in metric.tasks:
        raise errors.invalid(field, f"{name} does not fit {task}: take one of {fitting}")
    bound = metric.least_target
    if bound is not None and least_target is not None and least_target < bound:
        raise errors.invalid(
            field,
            f"{name} is of targets of at least {bound:g}, but one is {least_target:g}: "
            "take another metric",
        )
    return metric.direction


def _refuse_cost_alone(metrics: list[str], task: protocol.StudyTask) -> None:
    """The first metric is what early stopping, the winner and the verdict go by."""
    if catalog.METRICS[metrics[0]].cost:
        raise errors.invalid(
            "objective.metrics.0",
            f"{metrics[0]} says what a setting takes, not how good it is: name a score before it, "
            f"such as {_default_metric(task)}",
        )


def _refuse_repeats(field: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise errors.invalid(field, f"{name!r} is listed twice")


def _baselines(
    objective: protocol.TrainObjective, schema: protocol.DatasetSchema, task: protocol.StudyTask
) -> tuple[str, ...]:
    fitting = [
        family
        for family in catalog.FAMILIES.values()
        if family.baseline and task in family.tasks and _misfit(family, schema) is None
    ]
    if isinstance(objective.baselines, bool):
        cheap = tuple(family.name for family in fitting if _is_cheap(family, schema))
        return cheap if objective.baselines else ()
    _refuse_repeats("objective.baselines", objective.baselines)
    known = [family.name for family in fitting]
    for i, name in enumerate(objective.baselines):
        if name not in known:
            advice = f"take some of {', '.join(known)}" if known else "it has none"
            raise errors.invalid(
                f"objective.baselines.{i}", f"{name!r} is no baseline of this study: {advice}"
            )
    return tuple(objective.baselines)


def _is_cheap(family: Family, schema: protocol.DatasetSchema) -> bool:
    if family.baseline_width is None:
        return True
    # A category is a column of its own; two classes need no more than a number does.
    inputs = len(schema.symbols) or sum(len(each.categories) or 1 for each in schema.columns)
    outputs = len(schema.classes) if len(schema.classes) > 2 else max(len(schema.target), 1)
    return inputs * outputs <= family.baseline_width


def _check_plugins(made: Plan) -> None:
    spec = made.spec
    assert spec.search_space is not None  # filled by all ways of planning
    budgets.check(spec.budget, len(made.directions))
    cube = constraints.cube_of(spec)
    constraints.check_possible(cube)
    _check_known("sampler", SAMPLERS, spec.sampler)
    SAMPLERS[spec.sampler.name].check(cube, spec.sampler.options, len(made.directions))
    facts = judging.facts_of(spec, made.directions)
    PRUNERS[spec.pruner.name].check(spec.pruner.options, facts)


def _check_known(field: str, registry: Mapping[str, object], given: protocol.Plugin) -> None:
    if given.name not in registry:
        known = ", ".join(registry)
        raise errors.invalid(f"{field}.name", f"unknown {field} {given.name!r}: {known}")
