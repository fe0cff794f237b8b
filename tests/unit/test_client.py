"""The client: every failure is an error of ours, and no blob is ever half there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from hpo_service import errors, protocol
from hpo_service.client import Client

LEASE_ID = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"


def client(handler: Callable[[httpx.Request], httpx.Response], token: str = "") -> Client:
    transport = httpx.MockTransport(handler)
    return Client(
        "http://server", token, httpx.Client(base_url="http://server", transport=transport)
    )


def answering(status: int, **options: object) -> Client:
    return client(lambda _: httpx.Response(status, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthorized", errors.Unauthorized),
        (404, "not_found", errors.NotFound),
        (409, "lease_lost", errors.LeaseLost),
        (409, "report_conflict", errors.ReportConflict),
        (422, "invalid_request", errors.InvalidRequest),
        (503, "unavailable", errors.Unavailable),
        (500, "internal", errors.ServerError),
    ],
)
def test_an_error_comes_back_as_what_it_was(
    status: int, code: str, kind: type[errors.HpoError]
) -> None:
    body = {"error": {"code": code, "message": "why", "fields": [{"field": "a", "message": "b"}]}}
    with pytest.raises(kind) as raised:
        answering(status, json=body, headers={"Retry-After": "7"}).study("s")
    assert type(raised.value) is kind
    assert str(raised.value) == "why"
    assert raised.value.retry_after == 7
    assert raised.value.fields == (errors.FieldError("a", "b"),)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (413, errors.TooLarge),
        (429, errors.Unavailable),
        (502, errors.Unavailable),
        (404, errors.ServerError),  # no 404 of ours: a study is not gone because a proxy is lost
        (307, errors.ServerError),
    ],
)
def test_what_a_proxy_says_is_understood_by_its_status(
    status: int, kind: type[errors.HpoError]
) -> None:
    with pytest.raises(kind) as raised:
        answering(status, text="<html>").study("s")
    assert type(raised.value) is kind


def test_an_answer_of_something_else_is_an_error_and_no_crash() -> None:
    for body in (b"<html>", b"[]", b'{"state": 1}', b""):
        with pytest.raises(errors.ServerError):
            answering(200, content=body).study("s")


def test_no_answer_is_unreachable() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow", request=request)

    with pytest.raises(errors.Unreachable, match="http://server"):
        client(fail).studies()
    with pytest.raises(errors.Unreachable), Client("http://127.0.0.1:9") as closed:
        closed.studies()
    assert not client(fail).healthz()


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "http://[::1"])
def test_an_address_that_is_none_says_how_to_write_one(url: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="http://host:port"):
        Client(url)


def test_names_and_tokens_are_sent_as_they_are() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    client(answer, token="secret").delete_study("50% of é?#&")
    assert seen[0].url.path == "/v1/studies/50% of é?#&"
    assert seen[0].headers["Authorization"] == "Bearer secret"


def test_a_blob_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    path, sha256 = tmp_path / "blob", hashlib.sha256(b"rows").hexdigest()
    with pytest.raises(errors.Unreachable, match="damaged"):
        answering(200, content=b"row").download(sha256, path)
    missing = {"error": {"code": "not_found", "message": "gone"}}
    with pytest.raises(errors.NotFound, match="gone"):
        answering(404, json=missing).download(sha256, path)
    assert list(tmp_path.iterdir()) == []
    answering(200, content=b"rows").download(sha256, path)
    assert path.read_bytes() == b"rows"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_test_client_takes_the_place_of_a_connection(tmp_path: Path) -> None:
    async def tell(request: Request) -> Response:
        told = protocol.Tell.model_validate_json(await request.body())
        return JSONResponse({"state": told.state, "values": told.values})

    async def blob(request: Request) -> Response:
        return Response(str(request.query_params["lease_id"]).encode())

    routes = [
        Route(f"/v1/leases/{LEASE_ID}/tell", tell, methods=["POST"]),
        Route("/v1/blobs/{sha256}", blob),
    ]
    ours = Client("http://testserver", http=TestClient(Starlette(routes=routes)))
    told = ours.tell(LEASE_ID, protocol.Tell(state="complete", values=[0.5]))
    assert told == protocol.Told(state="complete", values=[0.5])
    sha256 = hashlib.sha256(LEASE_ID.encode()).hexdigest()
    ours.download(sha256, tmp_path / "blob", LEASE_ID)
    assert (tmp_path / "blob").exists()
