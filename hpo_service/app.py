"""The application: one service object, thin routers, one error handler."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from hpo_service import __version__, database, errors, protocol, schema
from hpo_service.artifacts import Blobs
from hpo_service.limits import Limits, body_of, headers_of
from hpo_service.problems import invalid_request
from hpo_service.pulse import Pulse
from hpo_service.routes import ROUTERS, TAGS, dependencies
from hpo_service.service import Service
from hpo_service.settings import Settings
from hpo_service.storage import Storage
from hpo_service.suggest import Searches

log = logging.getLogger("hpo_service")

DESCRIPTION = """
Finds the best neural network for your data, and tells what it is worth on data it never saw.

1. **See what there is**: `GET /v1/catalog` and `GET /v1/datasets`; add a CSV of your own.
2. **Create a study**: `POST /v1/studies` with a model family, a data set, a search space.
3. **Start workers**: `hpo worker` on any machine that reaches this server; they lease trials,
   train with cross-validation and report each epoch.
4. **Read the result**: `GET /v1/studies/{study}/best`, `/final`, `/plots/{name}`.

A study is addressed by its name or its id. Errors are
`{"error": {"code", "message", "fields"}}`; each field comes with a sentence that says what to do.
"""

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": protocol.ErrorBody, "description": text}
    for status, text in (
        (422, "Some fields are not valid: each is named, with what to do."),
        ("4XX", "The request cannot be done: code and message say why."),
        (503, "Not right now: come again after `Retry-After` seconds."),
    )
}


def create_app(settings: Settings | None = None, db: database.Database | None = None) -> FastAPI:
    """The application; `db` stands in for the database of the settings in tests."""
    settings = settings or Settings()
    service = make_service(settings, db)
    app = FastAPI(
        title="Hyperparameter optimization service",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.service = service
    for name, router in ROUTERS.items():
        needed = [] if name == "health" else [dependencies.AUTHORIZED]
        prefix = "" if name == "health" else "/v1"
        app.include_router(router, prefix=prefix, dependencies=needed, responses=PROBLEMS)
    _serve_docs(app)
    _handle_errors(app)
    app.add_middleware(Limits)
    return app


def make_service(settings: Settings, db: database.Database | None = None) -> Service:
    """Open the database and the data folder; raises `WrongState` where they cannot be used."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    opened = db or database.Database(settings.url)
    return Service(
        settings=settings,
        database=opened,
        blobs=Blobs(settings.data_dir),
        searches=Searches(),
        storage=Storage(opened),
        pulse=Pulse(settings.lease_ttl),
    )


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    with contextlib.ExitStack() as stack:
        if service.database.sqlite:
            path = Path(str(service.database.url.database))
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(database.lock_file(path))
        schema.require_current(service.database)
        service.pulse.start()
        stack.callback(service.database.close)
        stack.callback(service.pulse.stop)
        yield


# --- docs page ------------------------------------------------------------------------------


def _serve_docs(app: FastAPI) -> None:
    """Swagger UI from a package's files: the page works with no internet."""
    assets = Path(str(files("fastapi_offline"))) / "static"
    app.mount("/static", StaticFiles(directory=assets), name="static")

    @app.get("/", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=f"{app.title} - API",
            swagger_js_url="/static/swagger-ui-bundle.js",
            swagger_css_url="/static/swagger-ui.css",
            swagger_favicon_url="/static/favicon.png",
            swagger_ui_parameters={"docExpansion": "list", "defaultModelsExpandDepth": 0},
        )


# --- errors ---------------------------------------------------------------------------------


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(errors.HpoError)
    def known(_request: Request, error: errors.HpoError) -> Response:
        return _respond(error)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> Response:
        return _respond(invalid_request(error))

    @app.exception_handler(HTTPException)
    def http(_request: Request, error: HTTPException) -> Response:
        answer = _respond(_from_http(error))
        answer.status_code = error.status_code
        return answer

    @app.exception_handler(Exception)
    def unknown(request: Request, error: Exception) -> Response:
        mark = hashlib.sha256(repr(error).encode()).hexdigest()[:8]
        log.error("%s %s failed (%s)", request.method, request.url.path, mark, exc_info=error)
        return _respond(errors.ServerError(f"The server failed: its log has it under {mark}."))


def _from_http(error: HTTPException) -> errors.HpoError:
    if error.status_code == 404:
        return errors.NotFound("No such address: `/docs` shows them all.")
    if error.status_code == 405:
        return errors.BadRequest("This address does not take that method: see `/docs`.")
    return errors.BadRequest(str(error.detail))


def _respond(error: errors.HpoError) -> JSONResponse:
    content: dict[str, Any] = body_of(error)
    return JSONResponse(content, status_code=error.status, headers=headers_of(error))
