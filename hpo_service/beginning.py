"""The settings that a study begins with: the user's own, or the family's default."""

from __future__ import annotations

from hpo_service import catalog, constraints, errors, protocol, space
from hpo_service.cube import Cube
from hpo_service.samplers import SAMPLERS
from hpo_service.space import Params


def of(spec: protocol.StudySpec) -> tuple[tuple[Params, ...], bool]:
    """Their parameters under the names of the space, and whether they are the family's default.

    `spec` has a search space. Raises `InvalidRequest` for a setting that the space has not.
    """
    given = spec.first
    if given is None:
        default = _default(spec)
        return ((), False) if default is None else ((default,), True)
    if spec.budget.trials is not None and len(given) > spec.budget.trials:
        raise errors.invalid(
            "first", f"{len(given)} settings, but the budget is {spec.budget.trials} trials"
        )
    cube = constraints.cube_of(spec)
    return tuple(_checked(i, each, cube) for i, each in enumerate(given)), False


def _default(spec: protocol.StudySpec) -> Params | None:
    """What the family has, where it is a family that is tuned and the rules allow it."""
    objective, searched = spec.objective, spec.search_space or {}
    if SAMPLERS[spec.sampler.name].listed or not isinstance(objective, protocol.TrainObjective):
        return None
    family = catalog.FAMILIES[objective.model]
    values: Params = family.hyperparameters().model_dump() | objective.params
    default, cube = space.projected(searched, values), constraints.cube_of(spec)
    return default if bool(cube.feasible(cube.rows([default])).all()) else None


def _checked(index: int, params: Params, cube: Cube) -> Params:
    """One of the settings under the names of the space."""
    try:
        found = space.labelled(cube.space, params)
        space.check_params(cube.space, found)
        constraints.check_params(cube, found)
    except errors.InvalidRequest as error:
        raise error.below(f"first.{index}", "params") from None
    return found
