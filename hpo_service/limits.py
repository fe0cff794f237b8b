"""Limits on request bodies, kept before anything is parsed."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hpo_service import errors

JSON_BYTES = 1 << 20
REPORT_BYTES = 4 << 20
# Routes that take a file as it is; their size is bounded while it is written.
RAW = re.compile(r"^(POST /v1/datasets|PUT /v1/leases/[^/]+/artifacts/[^/]+)/?$")


class Limits:
    """ASGI middleware: JSON bodies are JSON by their header, not encoded, and not too large."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or RAW.match(f"{scope['method']} {scope['path']}"):
            await self.app(scope, receive, send)
            return
        limit = REPORT_BYTES if scope["path"].startswith("/v1/reports") else JSON_BYTES
        body = _Body(receive, limit)
        try:
            _check_headers(Headers(scope=scope), limit)
        except errors.HpoError as error:
            await _answer(error, send)
            return

        async def send_unless_exceeded(message: Message) -> None:
            if not body.exceeded:
                await send(message)

        await self.app(scope, body.receive, send_unless_exceeded)
        if body.exceeded:  # whatever the app made of a body that broke off
            await _answer(_too_large(limit), send)


class _Body:
    """Counts the bytes of a body as they come, with or without a Content-Length."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit, self._seen = receive, limit, 0
        self.exceeded = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            self.exceeded = True
            raise _too_large(self._limit)
        return message


def _too_large(limit: int) -> errors.TooLarge:
    return errors.TooLarge(f"The body has more than {limit} bytes: send less at once.")


def _check_headers(headers: Headers, limit: int) -> None:
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    if headers.get("content-encoding", "identity") != "identity":
        raise errors.UnsupportedMediaType("Send the body without a Content-Encoding.")
    has_body = length not in ("", "0") or "transfer-encoding" in headers
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if has_body and kind != "application/json":
        raise errors.UnsupportedMediaType("Send JSON, with `Content-Type: application/json`.")


def body_of(error: errors.HpoError) -> dict[str, Any]:
    """An error as it goes over the wire: a `protocol.ErrorBody`."""
    fields = [{"field": f.field, "message": f.message} for f in error.fields]
    return {"error": {"code": error.code, "message": error.message, "fields": fields}}


def headers_of(error: errors.HpoError) -> dict[str, str]:
    """`Retry-After` where the error says when to come again."""
    if error.retry_after is None:
        return {}
    return {"Retry-After": str(max(1, round(error.retry_after)))}


async def _answer(error: errors.HpoError, send: Send) -> None:
    content = json.dumps(body_of(error)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
