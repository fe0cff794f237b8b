"""Results: the best settings, the held-out score, importances, exports, plots."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from sqlalchemy import select

from hpo_service import diagnoses, final, learning_curve, plots, protocol, replay, studies, views
from hpo_service.routes.dependencies import ServiceDep, StudyKey
from hpo_service.tables import Trial

router = APIRouter(tags=["results"], prefix="/studies/{study}")

PlotName = Literal[
    "optimization_history",
    "learning_curves",
    "learning_curve",
    "param_importances",
    "parallel_coordinate",
    "slice",
]
IMAGE = {"schema": {"type": "string", "format": "binary"}}
CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}}
}
IMAGES = {200: {"content": {"image/png": IMAGE, "image/svg+xml": IMAGE}}}


@router.get("/best")
def best_trials(study: StudyKey, service: ServiceDep) -> list[protocol.Best]:
    """The best completed trial; where several metrics are optimised, the Pareto set."""
    with service.database.read() as session:
        return views.best(session, studies.get(session, study))


@router.get("/final")
def final_result(study: StudyKey, service: ServiceDep) -> protocol.Final:
    """The winner, refitted and scored once on rows the search never saw, beside the baselines."""
    with service.database.read() as session:
        return final.result(session, studies.get(session, study))


@router.get("/diagnosis")
def diagnosis(study: StudyKey, service: ServiceDep) -> protocol.Diagnoses:
    """Too simple, too free or a matter of luck: what the curves tell, and what to try next."""
    with service.database.read() as session:
        return diagnoses.of_study(session, studies.get(session, study))


@router.get("/learning-curve")
def learning_curve_over_rows(study: StudyKey, service: ServiceDep) -> protocol.LearningCurve:
    """The winner's scores by rows trained on, of the study that `POST` made for it."""
    with service.database.read() as session:
        return learning_curve.result(session, studies.get(session, study))


@router.get("/replay")
def replayed_proposals(
    study: StudyKey,
    service: ServiceDep,
    after: Annotated[
        int, Query(ge=0, le=protocol.MAX_INT, description="Number of the trial to begin with.")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=100, description="Proposals to make again.")] = 20,
) -> protocol.Replay:
    """Each trial's proposal made again, from what it depended on: the same, if all is well."""
    with service.database.read() as session:
        return replay.replay(session, studies.get(session, study), after, limit)


@router.get("/importances")
def parameter_importances(study: StudyKey, service: ServiceDep) -> protocol.Importances:
    """How much each parameter mattered (PED-ANOVA, Watanabe et al. 2023)."""
    with service.database.read() as session:
        name = studies.get(session, study).name
    return protocol.Importances(importances=plots.importances(service.storage, name))


@router.get("/trials.csv", response_class=Response, responses=CSV)
def export_trials(study: StudyKey, service: ServiceDep) -> Response:
    """All search trials as CSV."""
    with service.database.read() as session:
        row = studies.get(session, study)
        rows = session.scalars(
            select(Trial)
            .where(Trial.study_id == row.id, Trial.kind == "search")
            .order_by(Trial.number)
        )
        text = views.trials_csv(rows)
    disposition = f'attachment; filename="study-{row.id}-trials.csv"'
    return Response(text, media_type="text/csv", headers={"Content-Disposition": disposition})


@router.get("/plots/{name}", response_class=Response, responses=IMAGES)  # type: ignore[arg-type]
def draw_plot(
    study: StudyKey,
    name: PlotName,
    service: ServiceDep,
    accept: Annotated[str, Header(include_in_schema=False)] = "image/png",
    format: Annotated[
        Literal["png", "svg"] | None, Query(description="Instead of the Accept header.")
    ] = None,
) -> Response:
    """A plot as PNG or SVG: learning_curves over epochs, learning_curve over rows trained on."""
    kind = format or ("svg" if accept.startswith("image/svg") else "png")
    with service.database.read() as session:
        row = studies.get(session, study)
        study_name = (learning_curve.of(session, row) if name == "learning_curve" else row).name
    media = "image/svg+xml" if kind == "svg" else "image/png"
    return Response(plots.draw(service.storage, study_name, name, kind), media_type=media)
