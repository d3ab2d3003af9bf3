"""Reads a request's body, bounded, and as a JSON object; every way in which it can be wrong has its own answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import orjson
from starlette.types import Receive

from shared.errors import BadRequest, CallerGone, PayloadTooLarge, UnsupportedMediaType
from shared.fields import kind
from shared.generation import JsonObject

_BOM = b"\xef\xbb\xbf"
_MIB = 1024 * 1024
_ELEMENT = re.compile(r'(?:[^,"]|"[^"]*"?)+')
"""Of a list that is joined with commas; one in quotes does not separate."""
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("[^"]*"|[^;]*)')
"""Of a Content-Type (RFC 9110, 8.3.1): its name and its value, which may be quoted."""


async def read_body(headers: Mapping[str, str], receive: Receive, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body. Raises PayloadTooLarge before reading more than `max_bytes`, BadRequest when it is too slow."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size_bytes = 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise CallerGone("The caller closed the connection while sending the body.")
                chunk = message.get("body", b"")
                size_bytes += len(chunk)
                if size_bytes > max_bytes:
                    raise _too_large(max_bytes)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    if not size_bytes and "upgrade" in headers:
                        raise _not_read()
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    except TimeoutError:
        raise BadRequest(f"The body did not arrive within {timeout_s:g} s. Send it faster, or less of it.") from None


def may_be_json(headers: Mapping[str, str]) -> bool:
    """Whether a credential may be in the body: JSON, also under the header that `curl -d` sends of its own accord."""
    media_types = [media_type for media_type, _ in _content_types(headers)] or [""]
    return any(_is_json(one) or one in ("", "application/x-www-form-urlencoded", "text/plain") for one in media_types)


def require_json(headers: Mapping[str, str]) -> None:
    """Raises UnsupportedMediaType. A body without a Content-Type is read as JSON, and a type that was sent several times
    (`Headers.append` joins them) as one."""
    content_types = _content_types(headers)
    media_types = list(dict.fromkeys(media_type for media_type, _ in content_types))
    charsets = list(dict.fromkeys(charset for _, charset in content_types if charset))
    if len(media_types) > 1 or len(charsets) > 1:
        given = ", ".join(media_types if len(media_types) > 1 else charsets)
        raise UnsupportedMediaType(
            f"Content-Type gives the body several types or charsets ({given[:100]}); send one: application/json."
        )
    if media_types and not _is_json(media_types[0]):
        raise UnsupportedMediaType(
            f"The body is sent as {media_types[0][:100]}; this endpoint reads JSON: "
            "send the header Content-Type: application/json (curl: -H 'Content-Type: application/json')."
        )
    if charsets and charsets[0] not in ("utf-8", "us-ascii"):
        raise UnsupportedMediaType(f"The body's charset is {charsets[0][:40]}; JSON is read as UTF-8 only.")
    encodings = {item.strip() for item in headers.get("content-encoding", "").lower().split(",")} - {"", "identity"}
    if encodings:
        encoding = ", ".join(sorted(encodings))
        raise UnsupportedMediaType(f"The body's Content-Encoding is {encoding[:40]}; send it uncompressed.")


def parse_object(body: bytes) -> JsonObject:
    """Raises BadRequest that says where the body stops being a JSON object."""
    # Clients on Windows write the mark; JSON's own rules (RFC 8259, 8.1) let a reader ignore it.
    text = body.removeprefix(_BOM)
    if not text.strip():
        raise BadRequest("The body is empty; send a JSON object.")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(_reason(text, error)) from None
    if not isinstance(value, dict):
        raise BadRequest(f"The body is {kind(value)}; send a JSON object.")
    return value


def _reason(text: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return f"The body is not valid UTF-8 at byte {wrong.start}."
    return f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."


def _too_large(max_bytes: int) -> PayloadTooLarge:
    limit = f"{max_bytes // _MIB} MB" if max_bytes >= _MIB else f"{max_bytes} bytes"
    return PayloadTooLarge(
        f"The body is larger than {limit}, the most that this endpoint takes.", details={"limit_bytes": max_bytes}
    )


def _not_read() -> BadRequest:
    """The server stops reading where a request asks for another protocol, as Java's HttpClient does without TLS."""
    return BadRequest(
        "The body was not read, since the request asks for another protocol: send it as HTTP/1.1 without the header "
        "Upgrade (in Java: HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)).",
        field="upgrade",
    )


def _content_types(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """(media type, charset or "") of each Content-Type that was sent, in lower case; usually one."""
    text = headers.get("content-type", "").lower()
    if text == "application/json":
        return [(text, "")]
    found = ((one.partition(";")[0].strip(), _charset(one)) for one in _ELEMENT.findall(text))
    return [(media_type, charset) for media_type, charset in found if media_type]


def _charset(content_type: str) -> str:
    found = (value for name, value in _PARAMETER.findall(content_type) if name == "charset")
    charset = next(found, "").strip(' "')
    return "utf-8" if charset == "utf8" else charset


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))
