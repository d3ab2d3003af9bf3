"""A Gemini that ends each answer for the reason that the prompt names: `[finish:RECITATION]`."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_REASON = re.compile(r"\[finish:([A-Z_]+)\]")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        found = _REASON.search(body)
        frames = list(_frames("STOP" if found is None else found[1]))
        if ":streamGenerateContent" in self.path:
            self._send("text/event-stream", "".join(f"data: {json.dumps(frame)}\r\n\r\n" for frame in frames))
        else:
            self._send("application/json", json.dumps(frames[-1]))

    def _send(self, content_type: str, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """The test's output has no line for each request."""


def _frames(reason: str) -> Iterator[dict[str, object]]:
    """Text, unless the answer was withheld; the last frame has the reason."""
    parts = [{"text": "Once "}] if reason in ("STOP", "MAX_TOKENS", "CONTINUATION") else []
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}
    if parts:
        yield {"candidates": [{"content": {"role": "model", "parts": parts}}], "modelVersion": "gemini-3.8-flash"}
    yield {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": reason, "index": 0}],
        "usageMetadata": usage,
        "modelVersion": "gemini-3.8-flash",
    }


@contextlib.contextmanager
def scripted_gemini() -> Iterator[str]:
    """Its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
