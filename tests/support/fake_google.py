"""A Google that answers GET /v1beta/models by the key, in a thread of its own: for commands that run a loop of their own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Answer(NamedTuple):
    status: int
    body: bytes


MODELS = Answer(200, b'{"models": [{"name": "models/gemini-3.8-flash"}]}')


def error(status: int, message: str, reason: str = "") -> Answer:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    names = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED"}
    content = {"code": status, "message": message, "status": names.get(status, "INTERNAL"), "details": details}
    return Answer(status, json.dumps({"error": content}).encode())


@contextmanager
def fake_google(answers: Mapping[str, Answer]) -> Iterator[str]:
    """Its URL. A key that is not in `answers` may list models."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.headers.get("x-goog-api-key", ""), MODELS)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """The tests look at what is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
