"""Images from Gemini, and their storage: n images are n generations side by side, each admitted and counted by itself.

A failed generation does not affect the others. A generated image is paid for and must not be lost: it is stored as soon as it
arrives, and if storing fails its bytes are returned. No HTTP here: two endpoints use this.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.bounds.large_work import LARGE_BYTES
from shared.errors import (
    BadRequest,
    EmptyResponse,
    GatewayError,
    ResponseBlocked,
    StorageUnavailable,
    UpstreamFailed,
)
from shared.gemini import models, wire
from shared.gemini.answer_text import reject_blocked_prompt
from shared.gemini.native_body import native_body
from shared.generation import EncodedBody, JsonObject
from shared.images.choices import AspectRatio, ImageSize
from shared.images.inputs import Worker
from shared.images.storing import ImageData, read_image, store_image
from shared.media.input_image import InputImage, inline_part
from shared.media.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from shared.gateway.generator import Generator
    from shared.media.media import MediaStore

MAX_IMAGES = 8
"""Per API request."""
_EXCERPT_CHARS = 300


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """`keep_bytes`: the result has the images' bytes even if they are stored."""

    prompt: str
    model: str
    count: int = 1
    aspect_ratio: AspectRatio | None = None
    image_size: ImageSize | None = None
    system_prompt: str | None = None
    inputs: Sequence[InputImage] = ()
    keep_bytes: bool = False


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """`number` is that of the generation that returned it, from 0. `name` is None if the image could not be stored; then
    `data` is set. Type and size in pixels are read from the file."""

    number: int
    mime_type: str
    width: int | None
    height: int | None
    size_bytes: int
    sha256: str
    name: str | None
    data: bytes | None


class ImageFailure(NamedTuple):
    """The error of a generation, or of storing one of its images. `number` as for `GeneratedImage`."""

    number: int
    error: GatewayError


@dataclass(frozen=True, slots=True)
class ImageResult:
    """At least one image, in the order of the generations, and all failures."""

    images: list[GeneratedImage]
    failures: list[ImageFailure]
    text: str
    """Gemini's text besides the images."""
    model: str
    """The model that responded."""

    @property
    def data_bytes(self) -> int:
        """The size of the images' bytes that the result has."""
        return sum(len(image.data or b"") for image in self.images)


class _Job(NamedTuple):
    """What the generations of one request share."""

    generator: Generator
    request: ImageRequest
    body: EncodedBody
    store: Callable[[], MediaStore]
    work: Worker
    public_error: Callable[[Exception], GatewayError]
    request_id: str


def image_model(model: str, table: models.ModelTable = models.TABLE) -> str:
    """`model`, unless it is known not to generate images: then raises BadRequest."""
    info = models.info_of(model, table)
    if info is not None and not info.image_output:
        able = [name for name, other in table.models.items() if other.image_output]
        raise BadRequest(f"model {info.id} does not generate images; use one of {', '.join(able)}.", field="model")
    return model


async def generate_images(
    generator: Generator,
    request: ImageRequest,
    store: Callable[[], MediaStore],
    work: Worker,
    public_error: Callable[[Exception], GatewayError],
    request_id: str,
) -> ImageResult:
    """`store` may raise StorageUnavailable. `public_error` logs an internal error, and returns the error for the caller.
    If every generation fails, raises the first one's error, with the others in its details."""
    size_bytes = sum(len(image.data) for image in request.inputs)
    body = await generator.encode(partial(_native, request), size_bytes)
    job = _Job(generator, request, body, store, work, public_error, request_id)
    outcomes = await asyncio.gather(
        *(_generate_one(job, index) for index in range(request.count)), return_exceptions=True
    )
    results: list[ImageResult] = []
    failures: list[ImageFailure] = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, ImageResult):
            results.append(outcome)
            failures += outcome.failures
        elif isinstance(outcome, Exception):
            failures.append(ImageFailure(index, public_error(outcome)))
        else:
            raise outcome
    if not results:
        raise _all_failed(failures)
    return ImageResult(
        [image for result in results for image in result.images],
        failures,
        "\n".join(result.text for result in results if result.text),
        results[0].model,
    )


def _native(request: ImageRequest) -> JsonObject:
    """The body asks for images only: a model that may answer with text too sometimes answers with text alone."""
    parts: list[JsonObject] = [inline_part(image) for image in request.inputs]
    parts.append({"text": request.prompt})
    image_config = {"aspectRatio": request.aspect_ratio, "imageSize": request.image_size}
    config: JsonObject = {"responseModalities": ["IMAGE"]}
    if image_config := {name: value for name, value in image_config.items() if value is not None}:
        config["imageConfig"] = image_config
    return native_body([{"role": "user", "parts": parts}], request.system_prompt, config)


async def _generate_one(job: _Job, index: int) -> ImageResult:
    reply = await job.generator.generate(job.request.model, job.body)
    files, errors = await job.work(partial(_files, reply.body), LARGE_BYTES)
    # An image is paid for: if the caller leaves, it is at least among the stored images.
    stored = await uninterrupted(_store_all(job, index, files))
    errors = [*(error for _, error in stored if error is not None), *errors]
    # Without the reply: its image would stay in memory until the last of the other generations ends.
    return ImageResult(
        [image for image, _ in stored],
        [ImageFailure(index, error) for error in errors],
        wire.text_of(reply.body),
        reply.model_used,
    )


def _files(body: JsonObject) -> tuple[list[ImageData], list[GatewayError]]:
    """The complete images, at least one, and an error for each of the others. Raises PromptBlocked, ResponseBlocked,
    EmptyResponse, and UpstreamFailed if no image is complete."""
    reject_blocked_prompt(body)
    files: list[ImageData] = []
    errors: list[GatewayError] = []
    for part in wire.parts(body):
        blob: Any = part.get("inlineData")
        text = blob.get("data") if type(blob) is dict else None
        if type(text) is str and text:
            try:
                files.append(read_image(text, str(blob.get("mimeType") or "a file without a type")))
            except UpstreamFailed as error:
                errors.append(error)
    if files:
        return files, errors
    raise errors[0] if errors else _without_image(body)


def _without_image(body: JsonObject) -> GatewayError:
    reason, text = wire.finish_reason(body), wire.text_of(body)[:_EXCERPT_CHARS]
    details: JsonObject = {"finish_reason": reason}
    if text:
        message = f"Gemini returned text instead of an image: “{text}”. Ask for an image in the prompt."
        return EmptyResponse(message, details={**details, "text": text})
    finish_message = next((str(one["finishMessage"]) for one in wire.candidates(body) if one.get("finishMessage")), "")
    suffix = f" Gemini's message: {finish_message[:_EXCERPT_CHARS]}" if finish_message else ""
    if reason in (None, "STOP", "NO_IMAGE", "MAX_TOKENS", "IMAGE_OTHER", "FINISH_REASON_UNSPECIFIED"):
        return EmptyResponse(
            f"Gemini returned no image (finish reason {reason or 'missing'}); change the prompt, or retry.{suffix}",
            details=details,
        )
    return ResponseBlocked(
        f"Gemini withheld the image (finish reason {reason}); change the prompt or the input images.{suffix}",
        details=details,
    )


async def _store_all(job: _Job, index: int, files: list[ImageData]) -> list[tuple[GeneratedImage, GatewayError | None]]:
    return [await _store_one(job, index, file) for file in files]


async def _store_one(job: _Job, index: int, file: ImageData) -> tuple[GeneratedImage, GatewayError | None]:
    """The stored image; or the image with its bytes, and the error that explains why it is not stored."""
    request, data, (mime_type, width, height, _) = job.request, file.data, file.kind
    metadata = {"model": request.model, "prompt": request.prompt, "request-id": job.request_id}
    stored = await store_image(job.store, file, metadata, job.public_error)
    if isinstance(stored, str):
        not_stored = StorageUnavailable(f"The image could not be stored and is returned in b64_json: {stored}")
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        return GeneratedImage(index, mime_type, width, height, len(data), sha256, None, data), not_stored
    returned = data if request.keep_bytes else None
    image = GeneratedImage(index, mime_type, width, height, stored.size_bytes, stored.sha256, stored.name, returned)
    return image, None


def failures_json(failures: Sequence[ImageFailure]) -> list[JsonObject]:
    return [{"index": number, "code": error.code, "message": error.message} for number, error in failures]


def _all_failed(failures: Sequence[ImageFailure]) -> GatewayError:
    error = failures[0].error
    if len(failures) > 1:
        error.details = {**(error.details or {}), "errors": failures_json(failures)}
    return error
