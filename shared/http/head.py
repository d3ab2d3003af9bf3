"""Which request heads are rejected, and the responses to them. Without I/O.

Rejected are heads that two HTTP servers in a row could read differently (RFC 9112, 11.2), heads that are larger than any
client needs, and paths that no route of the framework matches.
"""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import NamedTuple

import orjson

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
"""A header of 4 bytes takes 150 bytes in memory."""
Headers = list[tuple[bytes, bytes]]


class Rejection(NamedTuple):
    """The response to a request that cannot be routed."""

    status: int
    code: str
    message: str


INVALID = Rejection(400, "invalid_request", "This is not a valid HTTP/1.1 request. Correct its syntax.")
_NOT_FOUND = Rejection(
    404, "not_found", "The path has a line break (%0A), and no path of this server has one. Remove it."
)
TOO_LARGE = Rejection(
    431,
    "head_too_large",
    f"The request's head (or trailer) exceeds {MAX_HEAD_BYTES // 1024} KB or {MAX_HEADERS} headers. Send fewer or shorter ones.",
)
TOO_SLOW = Rejection(408, "head_timeout", "The request's head did not arrive in time. Send it without delay.")
NO_ROOM = Rejection(503, "unavailable", "This server has too many open connections. Retry later, or reuse connections.")


def head_fault(version: str, headers: Headers, target: bytes = b"/") -> Rejection | None:
    """Why the head is ambiguous to another server, or cannot be routed; None if neither. Names are in lower case. Pure."""
    if b"%0" in target and b"%0a" in target.partition(b"?")[0].lower():
        # The framework would answer a text, without a request id and without a log record.
        return _NOT_FOUND
    hosts = 0
    coding: bytes | None = None
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            coding = value.lower() if coding is None else coding + b", " + value.lower()
    if hosts > 1 or (not hosts and version == "1.1"):
        return INVALID._replace(message=f"The request has {hosts} Host headers. Send exactly one.")
    if coding is None:
        return None
    if version != "1.1":
        return INVALID._replace(message=f"HTTP/{version} has no Transfer-Encoding. Send Content-Length, or HTTP/1.1.")
    if coding != b"chunked":
        return Rejection(
            501,
            "not_implemented",
            "Only the Transfer-Encoding `chunked` is supported. Send the body without other codings.",
        )
    return None


def head_bytes(url: bytes, headers: Headers) -> int:
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


def response(rejection: Rejection, default_headers: Headers) -> bytes:
    """The complete response, after which the connection is closed."""
    status, code, message = rejection
    request_id = f"req_{os.urandom(12).hex()}"
    error = {"code": code, "message": message, "status": status, "request_id": request_id}
    body = orjson.dumps({"error": error})
    headers = [
        *default_headers,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        (b"x-request-id", request_id.encode()),
        *([(b"retry-after", b"5")] if status == 503 else []),
        (b"connection", b"close"),
    ]
    status_line = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return status_line + lines + b"\r\n" + body
