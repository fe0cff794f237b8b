"""What can be tuned, and how: each entry with the JSON schema of its options."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from hpo_service import catalog
from hpo_service.protocol import DataKind, Direction, Distribution, Model, StudyTask
from hpo_service.pruners import PRUNERS
from hpo_service.samplers import SAMPLERS

router = APIRouter(tags=["catalog"])

JsonSchema = dict[str, Any]


class FamilyView(Model):
    name: str
    title: str
    description: str
    tasks: list[StudyTask]
    kinds: list[DataKind]
    per_step: bool
    hyperparameters: JsonSchema
    default_space: dict[str, Distribution]


class MetricView(Model):
    name: str
    title: str
    direction: Direction
    tasks: list[StudyTask]


class PluginView(Model):
    name: str
    description: str
    options: JsonSchema


class Catalog(Model):
    families: list[FamilyView]
    metrics: list[MetricView]
    samplers: list[PluginView]
    pruners: list[PluginView]


@router.get("/catalog", response_model_exclude_none=True)
def show_catalog() -> Catalog:
    """Model families, metrics, samplers and pruners."""
    return Catalog(
        families=[_family(family) for family in catalog.FAMILIES.values()],
        metrics=[
            MetricView(name=m.name, title=m.title, direction=m.direction, tasks=list(m.tasks))
            for m in catalog.METRICS.values()
        ],
        samplers=[_plugin(name, entry) for name, entry in SAMPLERS.items()],
        pruners=[_plugin(name, entry) for name, entry in PRUNERS.items()],
    )


def _family(family: catalog.Family) -> FamilyView:
    return FamilyView(
        name=family.name,
        title=family.title,
        description=family.description,
        tasks=list(family.tasks),
        kinds=list(family.kinds),
        per_step=family.per_step,
        hyperparameters=family.hyperparameters.model_json_schema(),
        default_space=family.default_space,
    )


def _plugin(name: str, entry: Any) -> PluginView:
    description = (entry.options.__doc__ or "").strip()
    schema = entry.options.model_json_schema()
    return PluginView(name=name, description=description, options=schema)
