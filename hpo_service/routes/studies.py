"""Studies: create, look, pause, resume, stop, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from sqlalchemy import select

from hpo_service import learning_curve, plans, protocol, studies, tables, views
from hpo_service.routes.dependencies import After, Limit, ServiceDep, StudyKey

router = APIRouter(tags=["studies"], prefix="/studies")

SPECS = {
    "tune an MLP on digits": {
        "value": {
            "name": "digits-mlp",
            "objective": {
                "kind": "train",
                "model": "mlp",
                "dataset": "digits",
                "metrics": ["accuracy"],
                "record": ["log_loss"],
                "params": {"epochs": 30, "optimizer": "sgd"},
                "validation": {"method": "k_fold", "folds": 5, "repeats": 1, "stratify": True},
                "holdout": 0.2,
            },
            "search_space": {
                "hidden_layers": {"type": "int", "low": 1, "high": 4},
                "activation": {"type": "categorical", "choices": ["relu", "tanh", "swish"]},
                "learning_rate": {"type": "float", "low": 0.0001, "high": 0.3, "log": True},
                "momentum": {"type": "float", "low": 0.0, "high": 0.99},
            },
            "pruner": {"name": "asha"},
            "budget": {"trials": 50},
        }
    },
    "three lines: the family's default space": {
        "value": {
            "name": "wine-mlp",
            "objective": {"kind": "train", "model": "mlp", "dataset": "wine"},
            "budget": {"trials": 30},
        }
    },
    "a Python function that workers have": {
        "value": {
            "name": "my-study",
            "objective": {
                "kind": "custom",
                "name": "my_study:objective",
                "directions": ["maximize"],
                "dataset": "digits",
                "params": {"epochs": 20},
                "validation": {"folds": 5},
            },
            "search_space": {"alpha": {"type": "float", "low": 1e-6, "high": 1, "log": True}},
            "pruner": {"name": "median"},
            "budget": {"trials": 20},
        }
    },
    "anything that calls this API": {
        "value": {
            "name": "my-own-function",
            "objective": {"kind": "external", "directions": ["minimize"]},
            "search_space": {"x": {"type": "float", "low": -5, "high": 5}},
            "budget": {"trials": 100},
        }
    },
}
PATCHES = {
    "pause": {"value": {"state": "paused"}},
    "resume": {"value": {"state": "running"}},
    "stop now": {"value": {"state": "finished"}},
    "a larger budget": {"value": {"budget": {"trials": 100}}},
}
USUAL_SHARES = protocol.LearningCurveSpec()
CURVES = {
    "the usual shares": {"value": {}},
    "others, more surely": {"value": {"shares": [0.25, 0.5, 1.0], "repeats": 3}},
}


@router.post("", status_code=201)
def create_study(
    spec: Annotated[protocol.StudySpec, Body(openapi_examples=SPECS)],
    service: ServiceDep,
) -> protocol.Study:
    """Create a study; it runs as soon as workers ask for trials."""
    with service.database.read() as session:
        studies.require_free_name(session, spec.name)
        planned = plans.plan(session, service.blobs, spec)
    row = service.database.transact(lambda s, now: studies.insert(s, now, planned))
    with service.database.read() as session:
        return views.study(
            session, service.database.now(session), studies.get(session, str(row.id))
        )


@router.post("/{study}/learning-curve", status_code=201)
def create_learning_curve(
    study: StudyKey,
    service: ServiceDep,
    given: Annotated[protocol.LearningCurveSpec, Body(openapi_examples=CURVES)] = USUAL_SHARES,
) -> protocol.Study:
    """Train the winner on shares of the training rows: a study of its own, a grid over them.

    It is named after the study, `-learning-curve` at the end, with the same data, folds and seed.
    """
    with service.database.read() as session:
        spec = learning_curve.spec(session, studies.get(session, study), given)
    return create_study(spec, service)


@router.get("")
def list_studies(service: ServiceDep, limit: Limit = 100, after: After = 0) -> protocol.Studies:
    """All studies, the newest first."""
    with service.database.read() as session:
        rows = session.scalars(
            select(tables.Study).order_by(tables.Study.id.desc()).offset(after).limit(limit + 1)
        ).all()
        shown = views.many_studies(session, rows[:limit])
    return protocol.Studies(studies=shown, next=after + limit if len(rows) > limit else None)


@router.get("/{study}")
def show_study(study: StudyKey, service: ServiceDep) -> protocol.Study:
    """Its spec, state, counts and best trials so far."""
    with service.database.read() as session:
        return views.study(session, service.database.now(session), studies.get(session, study))


@router.patch("/{study}")
def change_study(
    study: StudyKey,
    change: Annotated[protocol.StudyPatch, Body(openapi_examples=PATCHES)],
    service: ServiceDep,
) -> protocol.Study:
    """Pause, resume, stop, or give another budget."""
    with service.database.read() as session:
        study_id = studies.get(session, study).id
    service.database.transact(lambda s, now: studies.patch(s, now, study_id, change))
    with service.database.read() as session:
        return views.study(
            session, service.database.now(session), studies.get(session, str(study_id))
        )


@router.delete("/{study}", status_code=204)
def delete_study(study: StudyKey, service: ServiceDep) -> None:
    """Delete the study with all its trials; workers drop what they hold of it."""
    with service.database.read() as session:
        study_id = studies.get(session, study).id
    service.database.transact(lambda s, _now: studies.delete(s, study_id))
    service.searches.forget(study_id)
