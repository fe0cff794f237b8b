"""A server that speaks the worker's part of the protocol and fails when it is told to."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SEARCH_ROWS, HELD_OUT_ROWS = b"search rows", b"held-out rows"
BLOBS = {hashlib.sha256(rows).hexdigest(): rows for rows in (SEARCH_ROWS, HELD_OUT_ROWS)}
SEARCH, HELD_OUT = BLOBS


class Drop(Exception):
    """Cut the connection instead of answering."""


@dataclass
class Answer(Exception):
    """Answer this instead."""

    status: int
    code: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """What happens to the first `times` requests that match: before or after they took effect."""

    pattern: str
    failure: Exception
    times: int = 1
    late: bool = False

    def strike(self, request: str, late: bool) -> None:
        if self.times > 0 and late == self.late and re.search(self.pattern, request):
            self.times -= 1
            raise self.failure


@dataclass
class Call:
    """A request that came, whatever became of it."""

    request: str  # "POST /v1/reports"
    body: Any
    at: float


class FakeServer:
    """`trials` are handed out in turn; `told` and `released` is what became of them."""

    def __init__(self) -> None:
        self.trials: list[dict[str, Any]] = []
        self.live: dict[str, dict[str, Any]] = {}
        self.told: dict[int, dict[str, Any]] = {}
        self.released: list[int] = []
        self.points: dict[int, list[int]] = {}
        self.artifacts: dict[int, dict[str, bytes]] = {}
        self.fate: Callable[[int], str] = lambda number: "held"
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.ttl = 60.0
        self.judge: Callable[[int, int], dict[str, Any]] = lambda number, step: {
            "action": "continue"
        }
        self._lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def add(self, *params: dict[str, Any], **more: Any) -> None:
        """Trials with these parameters; `more` is laid over the whole lease."""
        for given in params:
            number = len(self.trials) + len(self.live) + len(self.told)
            self.trials.append({"number": number, "params": given, **more})

    def fail(self, pattern: str, failure: Exception, times: int = 1, *, late: bool = False) -> None:
        """Let matching requests fail; `late`: after they took effect."""
        self.faults.append(Fault(pattern, failure, times, late))

    def requests(self, pattern: str) -> list[Call]:
        """The calls that match, in the order they came."""
        return [call for call in self.calls if re.search(pattern, call.request)]

    def wait(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait until it holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"in vain: {[c.request for c in self.calls][-9:]}"
            time.sleep(0.02)

    # --- the protocol -----------------------------------------------------------------------

    def answer(self, request: str, raw: bytes) -> Any:
        """What to answer; takes effect only if no fault strikes first."""
        body = json.loads(raw) if raw.startswith(b"{") else raw
        with self._lock:
            self.calls.append(Call(request, body, time.monotonic()))
            for fault in self.faults:
                fault.strike(request, late=False)
            answer = self._route(request, body, raw)
            for fault in self.faults:
                fault.strike(request, late=True)
            return answer

    def _route(self, request: str, body: Any, raw: bytes) -> Any:
        method, path = request.split(" ", 1)
        path, _, _query = path.partition("?")
        match (method, path.strip("/").split("/")[1:]):
            case ("POST", ["leases"]):
                return self._lease(body)
            case ("POST", ["reports"]):
                return {"decisions": self._report(body["reports"])}
            case ("POST", ["leases", lease_id, "tell"]):
                trial = self._held(lease_id)
                self.told[trial["number"]] = body
                return {"state": body["state"], "values": body.get("values")}
            case ("POST", ["leases", lease_id, "release"]):
                self.released.append(self._held(lease_id)["number"])
                return {"state": "waiting", "values": None}
            case (_, ["leases", lease_id, "artifacts", name]):
                return self._artifact(method, self._held(lease_id)["number"], name, raw)
            case ("PUT", ["workers", _name]):
                return {"leases": {i: self.fate(self.live[i]["number"]) for i in body["lease_ids"]}}
            case ("GET", ["blobs", sha256]):
                return BLOBS[sha256]
            case ("GET", ["studies"]):
                return {"studies": [self._study()], "next": None}
        raise Answer(404, "not_found")

    def _lease(self, body: dict[str, Any]) -> dict[str, Any]:
        for lease_id in body["lease_ids"]:
            if lease_id not in self.live and self.trials:
                self.live[lease_id] = self.trials.pop(0) | {"lease_id": lease_id}
        found = [self._lease_of(self.live[i]) for i in body["lease_ids"] if i in self.live]
        return {"leases": found, "retry_after": None if found else 0.05}

    def _lease_of(self, trial: dict[str, Any]) -> dict[str, Any]:
        objective = {"kind": "train", "model": "mlp", "dataset": "digits"}
        lease = {
            "study_id": 1, "study": "demo", "trial_id": trial["number"] + 1, "kind": "search",
            "attempt": 1, "ttl": self.ttl, "seed": 0, "study_seed": 0, "data": SEARCH,
        }  # fmt: skip
        changed = {"objective": objective | trial.get("objective", {})}
        return lease | trial | changed

    def _report(self, reports: list[dict[str, Any]]) -> dict[str, Any]:
        decisions: dict[str, Any] = {}
        for given in reports:
            trial = self.live.get(given["lease_id"])
            if trial is None:
                decisions[given["lease_id"]] = {"action": "lost"}
            elif decisions.get(given["lease_id"], {}).get("action", "continue") == "continue":
                self.points.setdefault(trial["number"], []).append(given["step"])
                decisions[given["lease_id"]] = self.judge(trial["number"], given["step"])
        return decisions

    def _artifact(self, method: str, number: int, name: str, raw: bytes) -> Any:
        stored = self.artifacts.setdefault(number, {})
        if method == "PUT":
            stored[name] = raw
            return {"name": name, "sha256": "0" * 64, "size": len(raw)}
        if name not in stored:
            raise Answer(404, "not_found")
        return stored[name]

    def _held(self, lease_id: str) -> dict[str, Any]:
        if lease_id not in self.live:
            raise Answer(409, "lease_lost")
        return self.live[lease_id]

    def _study(self) -> dict[str, Any]:
        ended = len(self.told) + len(self.released)
        open_trials = self.trials or ended < len(self.live)
        spec = {
            "name": "demo",
            "objective": {"kind": "train", "model": "mlp", "dataset": "digits"},
            "budget": {"trials": 9},
        }
        return {
            "id": 1, "name": "demo", "state": "running" if open_trials else "finished",
            "ended_by": None, "directions": ["maximize"], "n_trials": 0, "budget_trials": 9,
            "counts": {}, "best": [], "spec": spec, "seed": 0,
            "created_at": "2026-01-01T00:00:00Z", "ended_at": None,
        }  # fmt: skip

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    found = server.answer(f"{self.command} {self.path}", raw)
                    self._send(200, found if isinstance(found, bytes) else json.dumps(found))
                except Drop:
                    self.close_connection = True
                except Answer as given:
                    problem = {"error": {"code": given.code, "message": f"fake {given.code}"}}
                    self._send(given.status, json.dumps(problem), given.headers)

            def _send(self, status: int, body: str | bytes, headers: Any = ()) -> None:
                data = body.encode() if isinstance(body, str) else body
                self.send_response(status)
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _serve  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
