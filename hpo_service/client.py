"""How to call the service: one method per call of the REST API, typed and synchronous.

Every failure is an error of `hpo_service.errors`: what the server answered, or `Unreachable`
where no answer came. All calls but those named `create_` or `add_` may be repeated without effect,
so a caller that got no answer just calls again.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from typing import Protocol as Interface
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from hpo_service import errors, protocol

CONNECT_TIMEOUT = 5.0  # seconds
READ_TIMEOUT = 10.0  # seconds without a byte of the answer
KEEPALIVE = 3.0  # seconds; below the server's 5, or it would close connections we just reuse
SLOW_TIMEOUT = 300.0  # seconds, for calls that read or draw a lot of data

StudyKey = str | int  # a study's name or its id
Query = str | int | float | bool | list[str] | None
T = TypeVar("T")

_ACCEPT = {"png": "image/png", "svg": "image/svg+xml"}
# What an answer without our own error body means (a proxy spoke). A 404 is left out: it means
# that this is not our API, while our own 404 means that the thing is gone.
_BY_STATUS: dict[int, type[errors.HpoError]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    409: errors.Conflict,
    413: errors.TooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.InvalidRequest,
    **dict.fromkeys((425, 429, 502, 503, 504), errors.Unavailable),
}


class Response(Interface):
    """What is read of an answer; httpx and Starlette's `TestClient` both fit."""

    status_code: int

    @property
    def content(self) -> bytes: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def iter_bytes(self) -> Iterator[bytes]: ...
    def read(self) -> bytes: ...


class Http(Interface):
    """What sends a request: an `httpx.Client`, or a `TestClient` to run without a socket."""

    def request(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None = ...,
        params: Mapping[str, Query] | None = ...,
        headers: Mapping[str, str] | None = ...,
        extensions: dict[str, Any] | None = ...,
    ) -> Any: ...
    def stream(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Query] | None = ...,
        headers: Mapping[str, str] | None = ...,
        extensions: dict[str, Any] | None = ...,
    ) -> AbstractContextManager[Any]: ...
    def close(self) -> None: ...


class Client:
    """A connection to the service; safe to share between threads.

    `url` is the server's address without `/v1`. `http` replaces the connection itself.
    """

    def __init__(self, url: str, token: str = "", http: Http | None = None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http: Http = http or _connect(self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- studies ----------------------------------------------------------------------------

    def create_study(self, spec: protocol.StudySpec) -> protocol.Study:
        body = self._send("POST", "/v1/studies", spec, timeout=SLOW_TIMEOUT)
        return _parse(protocol.Study, body)

    def studies(self, **query: Query) -> protocol.Studies:
        return _parse(protocol.Studies, self._send("GET", "/v1/studies", query=query))

    def study(self, study: StudyKey) -> protocol.Study:
        return _parse(protocol.Study, self._send("GET", _path("studies", study)))

    def patch_study(self, study: StudyKey, patch: protocol.StudyPatch) -> protocol.Study:
        return _parse(protocol.Study, self._send("PATCH", _path("studies", study), patch))

    def create_learning_curve(
        self, study: StudyKey, spec: protocol.LearningCurveSpec
    ) -> protocol.Study:
        path = _path("studies", study, "learning-curve")
        return _parse(protocol.Study, self._send("POST", path, spec, timeout=SLOW_TIMEOUT))

    def learning_curve(self, study: StudyKey) -> protocol.LearningCurve:
        path = _path("studies", study, "learning-curve")
        return _parse(protocol.LearningCurve, self._send("GET", path, timeout=SLOW_TIMEOUT))

    def delete_study(self, study: StudyKey) -> None:
        self._send("DELETE", _path("studies", study))

    def best(self, study: StudyKey) -> list[protocol.Best]:
        return _parse(list[protocol.Best], self._send("GET", _path("studies", study, "best")))

    def final(self, study: StudyKey) -> protocol.Final:
        body = self._send("GET", _path("studies", study, "final"), timeout=SLOW_TIMEOUT)
        return _parse(protocol.Final, body)

    def diagnosis(self, study: StudyKey) -> protocol.Diagnoses:
        body = self._send("GET", _path("studies", study, "diagnosis"), timeout=SLOW_TIMEOUT)
        return _parse(protocol.Diagnoses, body)

    def replay(self, study: StudyKey, after: int = 0) -> protocol.Replay:
        path = _path("studies", study, "replay")
        return _parse(
            protocol.Replay, self._send("GET", path, query={"after": after}, timeout=SLOW_TIMEOUT)
        )

    def importances(self, study: StudyKey) -> protocol.Importances:
        body = self._send("GET", _path("studies", study, "importances"), timeout=SLOW_TIMEOUT)
        return _parse(protocol.Importances, body)

    def trials_csv(self, study: StudyKey) -> bytes:
        return self._send("GET", _path("studies", study, "trials.csv"), timeout=SLOW_TIMEOUT)

    def plot(self, study: StudyKey, name: str, image: Literal["png", "svg"] = "png") -> bytes:
        path, accept = _path("studies", study, "plots", name), {"Accept": _ACCEPT[image]}
        return self._send("GET", path, headers=accept, timeout=SLOW_TIMEOUT)

    def model(self, study: StudyKey) -> bytes:
        return self._send("GET", _path("studies", study, "model"), timeout=SLOW_TIMEOUT)

    def final_artifacts(self, study: StudyKey) -> protocol.Artifacts:
        return _parse(protocol.Artifacts, self._send("GET", _path("studies", study, "artifacts")))

    def final_artifact(self, study: StudyKey, name: str) -> bytes:
        path = _path("studies", study, "artifacts", name)
        return self._send("GET", path, timeout=SLOW_TIMEOUT)

    # --- trials -----------------------------------------------------------------------------

    def trials(self, study: StudyKey, **query: Query) -> protocol.Trials:
        body = self._send("GET", _path("studies", study, "trials"), query=query)
        return _parse(protocol.Trials, body)

    def add_trial(self, study: StudyKey, trial: protocol.ManualTrial) -> protocol.Trial:
        return _parse(protocol.Trial, self._send("POST", _path("studies", study, "trials"), trial))

    def trial(self, study: StudyKey, number: int) -> protocol.Trial:
        return _parse(protocol.Trial, self._send("GET", _path("studies", study, "trials", number)))

    def curve(self, study: StudyKey, number: int, **query: Query) -> protocol.Curve:
        path = _path("studies", study, "trials", number, "reports")
        return _parse(protocol.Curve, self._send("GET", path, query=query))

    def cancel(self, study: StudyKey, number: int) -> protocol.Trial:
        path = _path("studies", study, "trials", number, "cancel")
        return _parse(protocol.Trial, self._send("POST", path))

    # --- leases -----------------------------------------------------------------------------

    def lease(
        self, request: protocol.LeaseRequest, timeout: float = READ_TIMEOUT
    ) -> protocol.Leases:
        return _parse(protocol.Leases, self._send("POST", "/v1/leases", request, timeout=timeout))

    def report(self, reports: protocol.Reports) -> protocol.Decisions:
        return _parse(protocol.Decisions, self._send("POST", "/v1/reports", reports))

    def tell(self, lease_id: str, tell: protocol.Tell) -> protocol.Told:
        return _parse(protocol.Told, self._send("POST", _path("leases", lease_id, "tell"), tell))

    def release(self, lease_id: str) -> None:
        self._send("POST", _path("leases", lease_id, "release"))

    def put_artifact(
        self, lease_id: str, name: str, data: bytes, step: int | None = None
    ) -> protocol.Artifact:
        path = _path("leases", lease_id, "artifacts", name)
        body = self._send("PUT", path, data, query={"step": step}, timeout=SLOW_TIMEOUT)
        return _parse(protocol.Artifact, body)

    def artifact(self, lease_id: str, name: str) -> bytes:
        path = _path("leases", lease_id, "artifacts", name)
        return self._send("GET", path, timeout=SLOW_TIMEOUT)

    def beat(self, worker: str, beat: protocol.Beat) -> protocol.Held:
        return _parse(protocol.Held, self._send("PUT", _path("workers", worker), beat))

    def worker(self, name: str) -> protocol.Worker:
        return _parse(protocol.Worker, self._send("GET", _path("workers", name)))

    # --- data -------------------------------------------------------------------------------

    def datasets(self) -> protocol.Datasets:
        return _parse(protocol.Datasets, self._send("GET", "/v1/datasets"))

    def dataset(self, name: str) -> protocol.Dataset:
        return _parse(protocol.Dataset, self._send("GET", _path("datasets", name)))

    def add_dataset(self, upload: protocol.Upload, data: bytes) -> protocol.Dataset:
        """Upload a CSV, Parquet or NPZ file."""
        query = upload.model_dump(exclude_defaults=True)
        body = self._send("POST", "/v1/datasets", data, query=query, timeout=SLOW_TIMEOUT)
        return _parse(protocol.Dataset, body)

    def download(self, sha256: str, path: Path, lease_id: str | None = None) -> None:
        """Store a blob as the file `path` (mode 0600), whole and with the right hash or not at all.

        Raises `Unreachable` where the bytes that came are not those of `sha256`.
        """
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            digest = hashlib.sha256()
            with (
                open(descriptor, "wb") as file,
                self._stream(_path("blobs", sha256), {"lease_id": lease_id}) as chunks,
            ):
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != sha256:
                raise errors.Unreachable(f"The download of blob {sha256[:12]} came damaged.")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def catalog(self) -> dict[str, Any]:
        """Families, metrics, samplers and pruners, with their JSON schemas."""
        return _parse(dict[str, Any], self._send("GET", "/v1/catalog"))

    def healthz(self) -> bool:
        """Whether the server answers and is well."""
        try:
            self._send("GET", "/healthz")
        except errors.HpoError:
            return False
        return True

    # --- the one way out --------------------------------------------------------------------

    def _send(
        self,
        method: str,
        path: str,
        body: protocol.Model | bytes | None = None,
        *,
        query: Mapping[str, Query] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> bytes:
        options = self._options(query, headers, timeout)
        if isinstance(body, bytes):
            options["content"] = body
            options["headers"].setdefault("Content-Type", "application/octet-stream")
        elif body is not None:
            options["content"] = body.model_dump_json().encode()
            options["headers"]["Content-Type"] = "application/json"
        with _unreachable(self.url):
            response: Response = self._http.request(method, path, **options)
        if not 200 <= response.status_code < 300:
            raise _error(response)
        return response.content

    @contextmanager
    def _stream(self, path: str, query: Mapping[str, Query]) -> Iterator[Iterator[bytes]]:
        options = self._options(query, None, SLOW_TIMEOUT)
        with _unreachable(self.url), self._http.stream("GET", path, **options) as response:
            if response.status_code != 200:
                response.read()
                raise _error(response)
            yield response.iter_bytes()

    def _options(
        self, query: Mapping[str, Query] | None, headers: Mapping[str, str] | None, timeout: float
    ) -> dict[str, Any]:
        limits = httpx.Timeout(timeout, connect=CONNECT_TIMEOUT)
        return {
            "params": {key: value for key, value in (query or {}).items() if value is not None},
            "headers": {**self._headers, **(headers or {})},
            # Not `timeout=`, which Starlette's TestClient refuses.
            "extensions": {"timeout": limits.as_dict()},
        }


def _connect(url: str) -> httpx.Client:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise errors.invalid("url", f"{error}: write http://host:port") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise errors.invalid("url", f"{url!r} is no address of a server: write http://host:port")
    # Proxy settings of the environment are not meant for the machine itself.
    local = address.host in ("localhost", "127.0.0.1", "::1")
    limits = httpx.Limits(keepalive_expiry=KEEPALIVE)
    return httpx.Client(base_url=url, trust_env=not local, limits=limits)


@contextmanager
def _unreachable(url: str) -> Iterator[None]:
    """Translate httpx's failures, once."""
    try:
        yield
    except (httpx.TransportError, httpx.DecodingError) as error:
        reason = str(error) or type(error).__name__
        raise errors.Unreachable(f"The server at {url} does not answer ({reason}).") from error


def _path(*parts: str | int) -> str:
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


def _parse(kind: type[T], body: bytes) -> T:
    try:
        return TypeAdapter(kind).validate_json(body)
    except ValidationError as error:
        raise errors.ServerError(
            "The answer is not one this client understands: check the address, "
            "and that server and client are of the same version."
        ) from error


def _error(response: Response) -> errors.HpoError:
    retry_after = _seconds(response.headers.get("Retry-After"))
    try:
        problem = protocol.ErrorBody.model_validate_json(response.content).error
    except ValidationError:
        kind = _BY_STATUS.get(response.status_code, errors.ServerError)
        message = f"The server answered HTTP {response.status_code} without an explanation."
        return kind(message, retry_after=retry_after)
    fields = tuple(
        errors.FieldError(field.get("field", ""), field.get("message", ""))
        for field in problem.fields
    )
    return errors.from_code(problem.code, problem.message, fields, retry_after)


def _seconds(header: str | None) -> float | None:
    """Retry-After in whole seconds; its other form, a date, is not used by this service."""
    return float(header) if header and header.isdecimal() else None
