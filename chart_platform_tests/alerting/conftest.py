"""A local server that speaks as much of Slack's API as alerts need: chat.postMessage and incoming webhooks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

TOKEN = "xoxb-1234-secret"


@dataclass(frozen=True)
class Trouble:
    """What the server answers instead of taking the message."""

    status: int
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang_up: bool = False


@dataclass
class Slack:
    url: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    """What was taken, in order."""
    requests: int = 0
    troubles: list[Trouble] = field(default_factory=list)
    """Answers to the next requests, first to last; then all is well."""

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    @property
    def webhook_url(self) -> str:
        return f"{self.url}/services/T0/B0/secret"


@pytest.fixture
def slack() -> Iterator[Slack]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            state.requests += 1
            if state.troubles:
                self._trouble(state.troubles.pop(0))
            elif self.path == "/services/T0/B0/secret":
                self._take(json.loads(body))
                self._answer(200, "ok", "text/html")
            elif self.path != "/api/chat.postMessage":
                self._answer(404, "no_service", "text/html")
            elif self.headers["Authorization"] != f"Bearer {TOKEN}":
                self._answer(200, json.dumps({"ok": False, "error": "invalid_auth"}))
            else:
                is_json = self.headers["Content-Type"].startswith("application/json")
                message = json.loads(body) if is_json else {name: values[0] for name, values in parse_qs(body).items()}
                self._take(message)
                self._answer(200, json.dumps({"ok": True, "channel": message["channel"], "ts": "1.0"}))

        def _take(self, message: dict[str, Any]) -> None:
            # As strict as Slack about the sizes that it documents.
            assert len(message["text"]) <= 40_000
            assert len(message["blocks"]) <= 50
            for block in message["blocks"]:
                assert 0 < len(block["text"]["text"]) <= (150 if block["type"] == "header" else 3000)
            state.messages.append(message)

        def _trouble(self, trouble: Trouble) -> None:
            time.sleep(trouble.delay)
            if not trouble.hang_up:
                kind = "application/json" if trouble.body.startswith("{") else "text/html"
                self._answer(trouble.status, trouble.body, kind, trouble.headers)

        def _answer(
            self, status: int, body: str, kind: str = "application/json", headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": f"{kind}; charset=utf-8", **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(BrokenPipeError):  # the client did not wait
                self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Slack(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
