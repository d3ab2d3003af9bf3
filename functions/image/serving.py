"""The responses of GET /image/<name>, GET /images and DELETE /images/<name>."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from shared.errors import BadRequest
from shared.generation import JsonObject
from shared.http.call import Call
from shared.http.conditional import not_modified, requested_range
from shared.images.links import image_url
from shared.media.media import StoredImage, cache_control, disposition

PAGE_SIZE = 20
MAX_PAGE_SIZE = 100
SIGNED_S = 900
"""How long a signed URL is valid."""
_MAX_REDIRECT_AGE_S = 600
"""How long a client may cache the redirect: the signed URL must still be valid when it is used."""


async def image_answer(call: Call, name: str) -> Response:
    """The image or a range of it, 304 if the client has it already, or a redirect to a signed URL. Raises NotFound,
    StorageUnavailable."""
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
        max_age_s = _MAX_REDIRECT_AGE_S if image.left_s is None else min(_MAX_REDIRECT_AGE_S, image.left_s)
        return Response(status_code=302, headers={"location": url, "cache-control": f"private, max-age={max_age_s}"})
    part = requested_range(headers, etag, image.size_bytes)
    content = await media.read(name, part)
    if part is None:
        return Response(content.data, headers=_headers(image))
    content_range = f"bytes {part[0]}-{part[1] - 1}/{image.size_bytes}"
    return Response(content.data, 206, headers={**_headers(image), "content-range": content_range})


async def recent_images(call: Call) -> JsonObject:
    """One page of the newest images; the query has `limit` and `cursor`. Raises BadRequest, StorageUnavailable."""
    query = call.request.query_params
    text = query.get("limit", str(PAGE_SIZE))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_PAGE_SIZE):
        raise BadRequest(f"limit must be a whole number from 1 to {MAX_PAGE_SIZE}.", field="limit")
    try:
        page = await call.services.media.recent(int(text), query.get("cursor"))
    except ValueError:
        raise BadRequest(
            "cursor must be next_cursor of the previous page; leave it out for the first page.", field="cursor"
        ) from None
    images = [_listed(image, image_url(image.name, call.base_url)) for image in page.images]
    return {"images": images, "next_cursor": page.cursor}


async def delete_image(call: Call, name: str) -> Response:
    """Raises NotFound, StorageUnavailable."""
    await call.services.media.delete(name)
    return Response(status_code=204)


def _etag(image: StoredImage) -> str:
    return f'"{image.sha256}"'


def _headers(image: StoredImage) -> dict[str, str]:
    """A stored image must never act as a page of this server: no sniffing, no scripts, no origin."""
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
    metadata = image.metadata
    listed: JsonObject = {
        "name": image.name,
        "url": url,
        "model": metadata.get("model"),
        "created": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "mime_type": image.mime_type,
        "width": int(metadata["width"]) if "width" in metadata else None,
        "height": int(metadata["height"]) if "height" in metadata else None,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
    }
    if "prompt" in metadata:
        listed["prompt"] = metadata["prompt"]
    return listed
