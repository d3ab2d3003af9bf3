"""What GET /image/<name>, GET /images and DELETE /images/<name> answer, and the links to images."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from shared.errors import BadRequest
from shared.generation import JsonObject
from shared.http.call import Call
from shared.http.conditional import not_modified, requested_range
from shared.media.media import StoredImage, cache_control, disposition
from shared.settings.settings import Settings

PREFIX = "/image/"
LISTED = 20
MAX_LISTED = 100
SIGNED_S = 900
"""How long a signed address is valid."""
_REDIRECT_KEPT_S = 600
"""How long a caller may keep it: it must have time left to use it."""
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


async def image_answer(call: Call, name: str) -> Response:
    """The bytes, or part of them, or that the caller has them, or where they are. Raises NotFound, StorageUnavailable."""
    media, headers = call.services.media, call.headers
    head, signed = call.method == "HEAD", call.settings.images.signed
    if not head and not signed and "if-none-match" not in headers and "range" not in headers:
        content = await media.read(name)
        return Response(content.data, headers=_headers(content.image))
    image = await media.describe(name)
    etag = _etag(image)
    if not_modified(headers, etag):
        return Response(status_code=304, headers=_headers(image))
    if head:
        return Response(headers={**_headers(image), "content-length": str(image.size_bytes)})
    if signed:
        url = await media.signed_url(name, SIGNED_S)
        kept_s = min(_REDIRECT_KEPT_S, _REDIRECT_KEPT_S if image.left_s is None else image.left_s)
        return Response(status_code=302, headers={"location": url, "cache-control": f"private, max-age={kept_s}"})
    part = requested_range(headers, etag, image.size_bytes)
    content = await media.read(name, part)
    if part is None:
        return Response(content.data, headers=_headers(image))
    content_range = f"bytes {part[0]}-{part[1] - 1}/{image.size_bytes}"
    return Response(content.data, 206, headers={**_headers(image), "content-range": content_range})


async def recent_images(call: Call) -> JsonObject:
    """`limit` and `cursor` are the query's. Raises BadRequest, StorageUnavailable."""
    query = call.request.query_params
    text = query.get("limit", str(LISTED))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LISTED):
        raise BadRequest(f"limit must be a whole number from 1 to {MAX_LISTED}.", field="limit")
    try:
        page = await call.services.media.recent(int(text), query.get("cursor"))
    except ValueError:
        raise BadRequest("cursor must be next_cursor of the page before, or left out.", field="cursor") from None
    images = [_listed(image, image_url(image.name, call.settings, call.request)) for image in page.images]
    return {"images": images, "next_cursor": page.cursor}


async def delete_image(call: Call, name: str) -> Response:
    """Raises NotFound, StorageUnavailable."""
    await call.services.media.delete(name)
    return Response(status_code=204)


def image_url(name: str, settings: Settings, request: Request) -> str:
    """Below PUBLIC_BASE_URL; else below the address that the request was sent to, or a path if that cannot be one."""
    if settings.images.public_base_url is not None:
        return settings.images.public_base_url + PREFIX + name
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        return PREFIX + name
    scheme = request.url.scheme
    # Only Google's front end is trusted to say how it was reached; elsewhere anybody may send that header.
    if settings.deployed and request.headers.get("x-forwarded-proto") in ("http", "https"):
        scheme = request.headers["x-forwarded-proto"]
    return f"{scheme}://{host}{PREFIX}{name}"


def _etag(image: StoredImage) -> str:
    return f'"{image.sha256}"'


def _headers(image: StoredImage) -> dict[str, str]:
    """Bytes that somebody had made must never act as a page of ours: no sniffing, no scripts, no origin."""
    return {
        "content-type": image.mime_type,
        "content-disposition": disposition(image.name, image.mime_type),
        "etag": _etag(image),
        "cache-control": cache_control(image.left_s),
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cross-origin-resource-policy": "cross-origin",
    }


def _listed(image: StoredImage, url: str) -> JsonObject:
    created = datetime.fromtimestamp(image.created_ms / 1000, UTC)
    about = image.metadata
    listed: JsonObject = {
        "name": image.name,
        "url": url,
        "model": about.get("model"),
        "created": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "mime_type": image.mime_type,
        "width": int(about["width"]) if "width" in about else None,
        "height": int(about["height"]) if "height" in about else None,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
    }
    if "prompt" in about:
        listed["prompt"] = about["prompt"]
    return listed
