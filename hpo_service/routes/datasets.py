"""Data sets: the built-in ones, and files of a user's own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from hpo_service import datasets, protocol
from hpo_service.routes.dependencies import ServiceDep, UploadDep

router = APIRouter(tags=["datasets"], prefix="/datasets")

BINARY = {"schema": {"type": "string", "format": "binary"}}
FILE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": BINARY
            | {"example": "sepal,petal,species\n5.1,1.4,setosa\n6.2,4.5,versicolor\n"},
            "application/octet-stream": BINARY,
        },
    }
}


@router.get("")
def list_datasets(service: ServiceDep) -> protocol.Datasets:
    """All data sets, built-in and uploaded."""
    with service.database.read() as session:
        return protocol.Datasets(datasets=datasets.listing(session))


@router.post("", status_code=201, openapi_extra=FILE_BODY)
def add_dataset(
    upload: Annotated[protocol.Upload, Query()], body: UploadDep, service: ServiceDep
) -> protocol.Dataset:
    """Upload a file as the raw body: CSV with a header line, Parquet, or NPZ.

    A row of the file is a row of the data set, unless series in long format or a forecast are
    asked for. Of an NPZ file, `x` holds the inputs and `y` the target.
    """
    table, warnings = datasets.ingest(body.read(), upload)
    # Written before the transaction: SQLite has one writer, which should not wait for a disk.
    datasets.store(service.blobs, table)
    return service.database.transact(
        lambda s, now: datasets.add(s, now, service.blobs, upload.name, table, warnings)
    )


@router.get("/{name}")
def show_dataset(
    name: Annotated[str, Path(max_length=100, description="Name of the data set.")],
    service: ServiceDep,
) -> protocol.Dataset:
    """Its columns, classes and number of rows."""
    with service.database.read() as session:
        return datasets.describe(name, session)
