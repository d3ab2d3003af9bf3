"""The response of POST /generate, within the platform's size limit."""

from __future__ import annotations

import base64

import orjson
from starlette.responses import Response

from shared.generation import UNKNOWN_USAGE, JsonObject
from shared.http.call import Call
from shared.http.large_response import MAX_IMAGE_BYTES, in_chunks
from shared.images.generation import GeneratedImage, ImageResult, failures_json
from shared.images.links import image_url
from shared.images.room import room


def answer(call: Call, result: ImageResult, max_bytes: int = MAX_IMAGE_BYTES) -> Response | JsonObject:
    """The bytes of images that could not be stored are always included. The bytes of a stored image are included while they
    fit; otherwise `errors` refers to its `url`."""
    shown, left_out, fits = room(result.images, max_bytes)
    images = [_image(call, image) for image in result.images]
    for described, image, has_bytes in zip(images, result.images, shown, strict=True):
        if has_bytes:
            described["b64_json"] = base64.b64encode(image.data or b"").decode()
    usage = call.timeline.usage
    body: JsonObject = {
        "images": images,
        "errors": sorted([*failures_json(result.failures), *left_out], key=lambda error: int(error["index"])),
        "text": result.text,
        "model": result.model,
        "usage": (UNKNOWN_USAGE if usage is None else usage)._asdict(),
        "request_id": call.request_id,
    }
    return body if fits else in_chunks(orjson.dumps(body))


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
