"""Data sets: the built-in ones, and CSV files of a user's own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from hpo_service import datasets, protocol
from hpo_service.routes.dependencies import ServiceDep, UploadDep

router = APIRouter(tags=["datasets"], prefix="/datasets")

CSV_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {
                "schema": {"type": "string", "format": "binary"},
                "example": "sepal,petal,species\n5.1,1.4,setosa\n6.2,4.5,versicolor\n",
            }
        },
    }
}


@router.get("")
def list_datasets(service: ServiceDep) -> protocol.Datasets:
    """All data sets, built-in and uploaded."""
    with service.database.read() as session:
        return protocol.Datasets(datasets=datasets.listing(session))


@router.post("", status_code=201, openapi_extra=CSV_BODY)
def add_dataset(
    name: Annotated[protocol.Name, Query(description="What studies will call it.")],
    target: Annotated[
        str, Query(min_length=1, max_length=1000, description="The column to predict.")
    ],
    body: UploadDep,
    service: ServiceDep,
    task: Annotated[
        protocol.Task | None, Query(description="Unset: told from the target's values.")
    ] = None,
) -> protocol.Dataset:
    """Upload a CSV file as the raw body: a header line, one row per sample."""
    table, warnings = datasets.ingest_csv(body.read(), target, task)
    # Written before the transaction: SQLite has one writer, which should not wait for a disk.
    datasets.store(service.blobs, table)
    return service.database.transact(
        lambda s, now: datasets.add(s, now, service.blobs, name, table, warnings)
    )


@router.get("/{name}")
def show_dataset(
    name: Annotated[str, Path(max_length=100, description="Name of the data set.")],
    service: ServiceDep,
) -> protocol.Dataset:
    """Its columns, classes and number of rows."""
    with service.database.read() as session:
        return datasets.describe(name, session)
