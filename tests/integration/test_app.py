"""The app as a whole: who may call, what the docs page needs, what it answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from hpo_service.app import create_app
from hpo_service.settings import Settings


def test_beyond_loopback_a_token_is_needed() -> None:
    with pytest.raises(ValidationError, match="HPO_TOKEN"):
        Settings(host="0.0.0.0")
    assert Settings(host="0.0.0.0", token="secret").token_value == "secret"


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic c2VjcmV0", "secret"])
def test_every_address_but_the_health_check_needs_the_token(
    tmp_path: Path, header: str | None
) -> None:
    settings = Settings(data_dir=tmp_path, token="secret")
    headers = {"Authorization": header} if header else {}
    with TestClient(create_app(settings)) as http:
        paths = http.get("/openapi.json").json()["paths"]
        for path, methods in paths.items():
            for method in methods:
                answer = http.request(
                    method, re.sub(r"\{.*?\}", "1", path), headers=headers, json={}
                )
                expected = (200,) if path == "/healthz" else (401,)
                assert answer.status_code in expected, (method, path, answer.text)
        good = http.get("/v1/studies", headers={"Authorization": "Bearer secret"})
        assert good.status_code == 200


def test_the_docs_page_asks_nobody_else_for_anything(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(data_dir=tmp_path))) as http:
        page = http.get("/docs").text
        links = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(links) >= 2
        assert all(link.startswith("/") for link in links)
        assert all(http.get(link).status_code == 200 for link in links)


def test_every_request_body_has_a_worked_example(tmp_path: Path) -> None:
    schema = create_app(Settings(data_dir=tmp_path)).openapi()
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            assert operation.get("description"), (method, path)
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                if kind != "application/octet-stream":
                    assert "examples" in content or "example" in content, (method, path)


def test_the_catalog_says_what_can_be_tuned(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(data_dir=tmp_path))) as http:
        catalog = http.get("/v1/catalog").json()
    assert {"mlp", "logistic_regression", "ridge"} <= {f["name"] for f in catalog["families"]}
    assert {"grid", "random", "tpe", "gp"} <= {s["name"] for s in catalog["samplers"]}
    assert {"none", "median", "asha"} <= {p["name"] for p in catalog["pruners"]}
    assert "learning_rate@sgd" in catalog["families"][0]["default_space"]
