"""Reads a request's body within bounds of size, time and memory, and parses it as a JSON object. Each fault has its own
error."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping

import orjson
from starlette.types import Receive

from shared.bounds.byte_budget import Claim
from shared.bounds.json_structure import TooManyValues, check_values
from shared.errors import BadRequest, CallerGone, PayloadTooLarge, UnsupportedMediaType, json_type
from shared.generation import JsonObject

_BOM = b"\xef\xbb\xbf"
_MIB = 1024 * 1024
_JSON = "application/json"
GRACE_S = 10.0
"""Time for which a body may arrive at any rate."""
MIN_BYTES_PER_S = 256 * 1024
"""Minimum rate of a body after GRACE_S: 31 MB take two minutes at this rate."""
_MAX_LENGTH_DIGITS = 18
"""Digits of a Content-Length that are parsed: int() takes time by the square of their number."""
_WIDE = bytes(range(0xF0))
"""Every byte but the first bytes of characters beyond U+FFFF."""
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB]")
"""The first half of an escaped character beyond U+FFFF."""
_ELEMENT = re.compile(r'(?:[^,"]|"[^"]*"?)+')
"""An element of a comma-separated list; a comma in quotes does not separate."""
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("[^"]*"|[^;]*)')
"""A parameter of a Content-Type (RFC 9110, 8.3.1): its name and its value, which may be quoted."""


async def read_body(
    headers: Mapping[str, str], receive: Receive, max_bytes: int, timeout_s: float, claim: Claim
) -> bytes:
    """The whole body. `claim` reserves its bytes as they arrive, and releases them after an error. Raises PayloadTooLarge
    before reading more than `max_bytes`, QueueFull, and BadRequest when the body arrives too slowly."""
    # Not a list of chunks, which takes 40 bytes more for each: a client may send single bytes.
    first, rest = b"", bytearray()

    async def take(chunk: bytes) -> None:
        nonlocal first
        claim.grow(len(chunk))
        if first:
            rest.extend(chunk)
        else:
            first = chunk

    try:
        claim.expect(declared_bytes(headers, max_bytes))
        if not await receive_chunks(receive, max_bytes, timeout_s, take) and "upgrade" in headers:
            raise _not_read()
    except BaseException:
        claim.release()
        raise
    return first + rest if rest else first


def declared_bytes(headers: Mapping[str, str], max_bytes: int) -> int:
    """The Content-Length; 0 if there is none. Raises PayloadTooLarge."""
    declared = headers.get("content-length", "")
    size_bytes = int(declared) if declared.isdigit() and len(declared) <= _MAX_LENGTH_DIGITS else 0
    if size_bytes > max_bytes or len(declared) > _MAX_LENGTH_DIGITS:
        raise _too_large(max_bytes)
    return size_bytes


async def receive_chunks(
    receive: Receive, max_bytes: int, timeout_s: float, take: Callable[[bytes], Awaitable[None]]
) -> int:
    """Hands the body to `take` as it arrives, and returns its size. Raises PayloadTooLarge before `take` has more than
    `max_bytes`, BadRequest when the body arrives too slowly, and CallerGone."""
    size_bytes = 0
    began_s = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(min(timeout_s, GRACE_S)) as timeout:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise CallerGone("The caller closed the connection while sending the body.")
                chunk = message.get("body", b"")
                size_bytes += len(chunk)
                if size_bytes > max_bytes:
                    raise _too_large(max_bytes)
                await take(chunk)
                if not message.get("more_body", False):
                    return size_bytes
                timeout.reschedule(began_s + min(timeout_s, GRACE_S + size_bytes / MIN_BYTES_PER_S))
    except TimeoutError:
        raise _too_slow(size_bytes, timeout_s) from None


def may_be_json(headers: Mapping[str, str]) -> bool:
    """Whether the body may be JSON and hold a credential; `curl -d` sends JSON as a form unless it is given a header."""
    if headers.get("content-type") == _JSON:
        return True
    media_types = [media_type for media_type, _ in _content_types(headers)] or [""]
    return any(_is_json(one) or one in ("", "application/x-www-form-urlencoded", "text/plain") for one in media_types)


def require_json(headers: Mapping[str, str]) -> None:
    """Raises UnsupportedMediaType. A body without a Content-Type counts as JSON. A type that is repeated (`Headers.append`
    joins the values) counts once."""
    if headers.get("content-type") != _JSON:
        _require_json_type(headers)
    require_uncompressed(headers)


def _require_json_type(headers: Mapping[str, str]) -> None:
    content_types = _content_types(headers)
    media_types = list(dict.fromkeys(media_type for media_type, _ in content_types))
    charsets = list(dict.fromkeys(charset for _, charset in content_types if charset))
    if len(media_types) > 1 or len(charsets) > 1:
        given = ", ".join(media_types if len(media_types) > 1 else charsets)
        raise UnsupportedMediaType(
            f"Content-Type has several types or charsets ({given[:100]}); send one: application/json."
        )
    if media_types and not _is_json(media_types[0]):
        raise UnsupportedMediaType(
            f"The body is sent as {media_types[0][:100]}; this endpoint reads JSON: "
            "send the header Content-Type: application/json (curl: -H 'Content-Type: application/json')."
        )
    if charsets and charsets[0] not in ("utf-8", "us-ascii"):
        raise UnsupportedMediaType(f"The body's charset is {charsets[0][:40]}; send JSON as UTF-8.")


def require_uncompressed(headers: Mapping[str, str]) -> None:
    """Raises UnsupportedMediaType. A compressed body could decompress to any size."""
    if "content-encoding" not in headers:
        return
    encodings = {item.strip() for item in headers["content-encoding"].lower().split(",")} - {"", "identity"}
    if encodings:
        encoding = ", ".join(sorted(encodings))
        raise UnsupportedMediaType(f"The body's Content-Encoding is {encoding[:40]}; send it uncompressed.")


def budgeted_bytes(body: bytes) -> int:
    """The bytes that a JSON body reserves of the process's budget, for itself and its parsed strings. Python stores a
    string with one character beyond Latin-1 (or beyond U+FFFF) with two bytes (or four) for each of its characters."""
    if body.isascii() and b"\\u" not in body:
        return len(body)
    pieces = (body[at : at + _MIB] for at in range(0, len(body), _MIB))
    wide = any(piece.translate(None, _WIDE) for piece in pieces) or _HIGH_SURROGATE.search(body)
    return len(body) * 5 // 2 if wide else len(body) * 3 // 2


def parse_object(body: bytes) -> JsonObject:
    """Raises BadRequest with the place where the body stops being JSON, or if it has too many values."""
    # Clients on Windows write the mark; JSON's own rules (RFC 8259, 8.1) let a reader ignore it.
    text = body.removeprefix(_BOM)
    if not text or text.isspace():
        raise BadRequest("The body is empty; send a JSON object.")
    try:
        check_values(text)
    except TooManyValues as error:
        raise BadRequest(
            f"The body has {error}; send fewer in one request.",
            details={"limit_values": error.limit},
        ) from None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(_reason(text, error)) from None
    if not isinstance(value, dict):
        raise BadRequest(f"The body is {json_type(value)}; send a JSON object.")
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
        f"The body is larger than {limit}, the maximum; send a smaller one.", details={"limit_bytes": max_bytes}
    )


def _too_slow(size_bytes: int, timeout_s: float) -> BadRequest:
    if GRACE_S + size_bytes / MIN_BYTES_PER_S >= timeout_s:
        return BadRequest(f"The body did not arrive within {timeout_s:g} s; send it faster, or a smaller one.")
    return BadRequest(
        f"The body arrives too slowly: {size_bytes} bytes so far. After {GRACE_S:g} s its rate must be at least "
        f"{MIN_BYTES_PER_S // 1024} KB per second; send it faster."
    )


def _not_read() -> BadRequest:
    """uvicorn stops reading a request that asks for another protocol, as Java's HttpClient does without TLS."""
    return BadRequest(
        "The body was not read, because the request asks for another protocol: send it as HTTP/1.1 without the header "
        "Upgrade (in Java: HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)).",
        field="upgrade",
    )


def _content_types(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """(media type, charset or "") of each Content-Type in the request, in lower case; usually one."""
    text = headers.get("content-type", "").lower()
    found = ((one.partition(";")[0].strip(), _charset(one)) for one in _ELEMENT.findall(text))
    return [(media_type, charset) for media_type, charset in found if media_type]


def _charset(content_type: str) -> str:
    found = (value for name, value in _PARAMETER.findall(content_type) if name == "charset")
    charset = next(found, "").strip(' "')
    return "utf-8" if charset == "utf8" else charset


def _is_json(media_type: str) -> bool:
    return media_type == _JSON or (media_type.startswith("application/") and media_type.endswith("+json"))
