"""What POST /generate answers, kept within what the platform lets through."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import orjson
from starlette.responses import Response, StreamingResponse

from shared.generation import UNKNOWN_USAGE, JsonObject
from shared.http.call import Call
from shared.images.generation import ImagesMade, MadeImage, failures_json
from shared.images.serving import image_url
from shared.settings.settings import PLATFORM_BODY_BYTES

MOST_BYTES = PLATFORM_BODY_BYTES - 2**20
"""Of an answer; the rest is for what is not an image."""
_CHUNK_BYTES = 2**20


def answer(call: Call, made: ImagesMade, most_bytes: int = MOST_BYTES) -> Response | JsonObject:
    """Bytes go in as long as there is room: first those of images that are nowhere else. One of the others that has no
    room left is told of in `errors`, and is at its `url`."""
    unstored = sum(_encoded_bytes(image) for image in made.images if image.name is None)
    room_bytes = most_bytes - unstored
    images, errors = [], failures_json(made.failures)
    for image in made.images:
        shown = _image(call, image)
        if image.data is not None:
            if image.name is None or _encoded_bytes(image) <= room_bytes:
                shown["b64_json"] = base64.b64encode(image.data).decode()
                room_bytes -= _encoded_bytes(image) if image.name is not None else 0
            else:
                errors.append(_no_room(image, most_bytes))
        images.append(shown)
    usage = call.timeline.usage
    body: JsonObject = {
        "images": images,
        "errors": sorted(errors, key=lambda error: int(error["index"])),
        "text": made.text,
        "model": made.model,
        "usage": (UNKNOWN_USAGE if usage is None else usage)._asdict(),
        "request_id": call.request_id,
    }
    return body if unstored <= most_bytes else _in_chunks(orjson.dumps(body))


def _image(call: Call, image: MadeImage) -> JsonObject:
    return {
        "index": image.request,
        "url": None if image.name is None else image_url(image.name, call.settings, call.request),
        "name": image.name,
        "mime_type": image.mime_type,
        "width": image.width,
        "height": image.height,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
    }


def _encoded_bytes(image: MadeImage) -> int:
    return (image.size_bytes + 2) // 3 * 4


def _no_room(image: MadeImage, most_bytes: int) -> JsonObject:
    return {
        "index": image.request,
        "code": "answer_too_large",
        "message": f"With this image in base64 the answer would have more than {most_bytes // 2**20} MB; it is at its url.",
    }


def _in_chunks(body: bytes) -> Response:
    """The platform bounds whole answers and not those in chunks (cloud.google.com/run/quotas). Only for images that could
    not be stored: everything else is kept small enough for whoever reads it."""

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), _CHUNK_BYTES):
            yield body[start : start + _CHUNK_BYTES]

    return StreamingResponse(chunks(), media_type="application/json")
