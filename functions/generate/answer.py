"""The response of POST /generate, within the platform's size limit."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import orjson
from starlette.responses import Response, StreamingResponse

from shared.generation import UNKNOWN_USAGE, JsonObject
from shared.http.call import Call
from shared.images.generation import GeneratedImage, ImageResult, failures_json
from shared.images.links import image_url
from shared.settings.settings import PLATFORM_BODY_BYTES

MAX_BYTES = PLATFORM_BODY_BYTES - 2**20
"""Maximum of image bytes in a response; the rest is for everything else."""
_CHUNK_BYTES = 2**20


def answer(call: Call, result: ImageResult, max_bytes: int = MAX_BYTES) -> Response | JsonObject:
    """The bytes of images that could not be stored are always included. The bytes of a stored image are included while they
    fit; otherwise `errors` refers to its `url`."""
    unstored = sum(_encoded_bytes(image) for image in result.images if image.name is None)
    room_bytes = max_bytes - unstored
    images, errors = [], failures_json(result.failures)
    for image in result.images:
        shown = _image(call, image)
        if image.data is not None:
            if image.name is None or _encoded_bytes(image) <= room_bytes:
                shown["b64_json"] = base64.b64encode(image.data).decode()
                room_bytes -= _encoded_bytes(image) if image.name is not None else 0
            else:
                errors.append(_no_room(image, max_bytes))
        images.append(shown)
    usage = call.timeline.usage
    body: JsonObject = {
        "images": images,
        "errors": sorted(errors, key=lambda error: int(error["index"])),
        "text": result.text,
        "model": result.model,
        "usage": (UNKNOWN_USAGE if usage is None else usage)._asdict(),
        "request_id": call.request_id,
    }
    return body if unstored <= max_bytes else _in_chunks(orjson.dumps(body))


def _image(call: Call, image: GeneratedImage) -> JsonObject:
    return {
        "index": image.number,
        "url": None if image.name is None else image_url(image.name, call.base_url),
        "name": image.name,
        "mime_type": image.mime_type,
        "width": image.width,
        "height": image.height,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
    }


def _encoded_bytes(image: GeneratedImage) -> int:
    return (image.size_bytes + 2) // 3 * 4


def _no_room(image: GeneratedImage, max_bytes: int) -> JsonObject:
    return {
        "index": image.number,
        "code": "answer_too_large",
        "message": f"In base64 this image exceeds the response limit of {max_bytes // 2**20} MB; download it from its url.",
    }


def _in_chunks(body: bytes) -> Response:
    """The platform limits the size of whole responses, not of chunked ones (cloud.google.com/run/quotas). Only images that
    could not be stored need this."""

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), _CHUNK_BYTES):
            yield body[start : start + _CHUNK_BYTES]

    return StreamingResponse(chunks(), media_type="application/json")
