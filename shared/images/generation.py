"""Images from Gemini, and where they are kept: n images are n requests side by side, each admitted and counted by itself.

What one request fails with does not touch the others. An image that was made is paid for, and is never lost: it is stored
as soon as it is there, and where that fails its bytes are handed back. HTTP is not spoken of here: two endpoints use this.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

from shared.bounds.large_work import LARGE_BYTES
from shared.chat.chat import native_body, refuse_blocked_prompt
from shared.errors import (
    BadRequest,
    EmptyResponse,
    GatewayError,
    ResponseBlocked,
    StorageUnavailable,
    UpstreamFailed,
)
from shared.gemini import models, wire
from shared.gemini.encoding import encode
from shared.generation import Encoded, JsonObject
from shared.http.call import Call
from shared.media.base64_text import decode
from shared.media.image_file import ImageFile, identify
from shared.media.input_image import InputImage, inline_part
from shared.media.names import EXTENSIONS
from shared.telemetry.record import RequestRecord, told

MAX_IMAGES = 8
"""Of one request to us."""
AspectRatio = Literal[
    "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16", "16:9", "21:9"
]
ImageSize = Literal["512", "1K", "2K", "4K"]
"""Whatever some model makes (ai.google.dev/gemini-api/docs/image-generation); what one does not, Gemini refuses."""
_EXCERPT_CHARS = 300
_DECLARED_CHARS = 40
_SHOWN_BYTES = 12
"""Of a declared type and of a file that is not an image: what an error repeats."""


class Stored(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def sha256(self) -> str: ...


class ImageStore(Protocol):
    async def put_image(self, data: bytes, mime_type: str, *, metadata: Mapping[str, str]) -> Stored:
        """Whole or not at all. Raises StorageUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class ImagesAsked:
    """`keep_bytes`: the images are wanted with their bytes, and not only stored."""

    prompt: str
    model: str
    count: int = 1
    aspect_ratio: AspectRatio | None = None
    image_size: ImageSize | None = None
    system_prompt: str | None = None
    inputs: Sequence[InputImage] = ()
    keep_bytes: bool = False


@dataclass(frozen=True, slots=True)
class MadeImage:
    """`request`: which of the requests made it, from 0. `name` is None where it could not be stored; then `data` is there.
    Type and size in pixels are read from the file."""

    request: int
    mime_type: str
    width: int | None
    height: int | None
    size_bytes: int
    sha256: str
    name: str | None
    data: bytes | None


class Failure(NamedTuple):
    request: int
    error: GatewayError


@dataclass(frozen=True, slots=True)
class ImagesMade:
    """At least one image, in the order of the requests, and all that failed: requests, and storing."""

    images: list[MadeImage]
    failures: list[Failure]
    text: str
    """What Gemini said beside the images."""
    model: str
    """That answered."""


class _Made(NamedTuple):
    images: list[MadeImage]
    failures: list[Failure]
    text: str
    model: str


_Kept = tuple[MadeImage, GatewayError | None]


def image_model(model: str) -> str:
    """`model` if it can make images, as far as is known here. Raises BadRequest."""
    info = models.info_of(model)
    if info is not None and not info.image_output:
        able = [name for name, other in models.MODELS.items() if other.image_output]
        raise BadRequest(f"model {info.id} makes no images; {', '.join(able)} do.", field="model")
    return model


async def generate_images(call: Call, asked: ImagesAsked, store: Callable[[], ImageStore]) -> ImagesMade:
    """`store` may raise StorageUnavailable. Raises what the first request failed with if all did; its details then have
    the others' too."""
    size_bytes = sum(len(image.data) for image in asked.inputs)
    body, encoded = await call.work(partial(_prepared, asked), size_bytes)
    results = await asyncio.gather(
        *(_one(call, asked, body, encoded, number, store) for number in range(asked.count)), return_exceptions=True
    )
    made: list[_Made] = []
    failures: list[Failure] = []
    for number, result in enumerate(results):
        if isinstance(result, _Made):
            made.append(result)
            failures += result.failures
        elif isinstance(result, BaseException):
            failures.append(Failure(number, _told(call, result)))
    if not made:
        raise _all_failed(failures)
    return ImagesMade(
        [image for one in made for image in one.images],
        failures,
        "\n".join(one.text for one in made if one.text),
        made[0].model,
    )


def _prepared(asked: ImagesAsked) -> tuple[JsonObject, Encoded]:
    body = _native(asked)
    return body, encode(body, requests=asked.count)


def _native(asked: ImagesAsked) -> JsonObject:
    """Only images are asked for: asked for text too, models answer with text alone every now and then."""
    parts: list[JsonObject] = [inline_part(image) for image in asked.inputs]
    parts.append({"text": asked.prompt})
    wanted = {"aspectRatio": asked.aspect_ratio, "imageSize": asked.image_size}
    config: JsonObject = {"responseModalities": ["IMAGE"]}
    if wanted := {name: value for name, value in wanted.items() if value is not None}:
        config["imageConfig"] = wanted
    return native_body([{"role": "user", "parts": parts}], asked.system_prompt, config)


async def _one(
    call: Call, asked: ImagesAsked, body: JsonObject, encoded: Encoded, number: int, store: Callable[[], ImageStore]
) -> _Made:
    reply = await call.generate(asked.model, body, encoded)
    files, broken = await call.work(partial(_files, reply.body), LARGE_BYTES)
    kept = await _finished(_all_kept(call, asked, number, files, store))
    failures = [Failure(number, error) for error in (*(error for _, error in kept if error is not None), *broken)]
    # Not the reply itself: with its image it would stay in memory until the last of the others is there.
    return _Made([image for image, _ in kept], failures, wire.text_of(reply.body), reply.model_used)


class _File(NamedTuple):
    """The bytes of an image that is whole, and what they are."""

    data: bytes
    kind: ImageFile


def _files(body: JsonObject) -> tuple[list[_File], list[GatewayError]]:
    """The images that are whole, at least one, and an error for each of the others. Raises PromptBlocked,
    ResponseBlocked, EmptyResponse, and UpstreamFailed if no image is whole."""
    refuse_blocked_prompt(body)
    files: list[_File] = []
    broken: list[GatewayError] = []
    for part in wire.parts(body):
        blob: Any = part.get("inlineData")
        text = blob.get("data") if type(blob) is dict else None
        if type(text) is str and text:
            try:
                files.append(_file(text, str(blob.get("mimeType") or "a file without a type")))
            except UpstreamFailed as error:
                broken.append(error)
    if files:
        return files, broken
    raise broken[0] if broken else _without_image(body)


def _file(text: str, declared: str) -> _File:
    """Raises UpstreamFailed for what is not a whole image, whatever its declared type."""
    came = f"Gemini's answer has {declared[:_DECLARED_CHARS]!r} of"
    try:
        data = decode(text)
    except ValueError as rule:
        raise UpstreamFailed(f"{came} {len(text)} characters, which {rule}. Try again.") from None
    kind = identify(data)
    if kind.whole:
        return _File(data, kind)
    known = kind.mime_type in EXTENSIONS
    why = f"a damaged or incomplete {kind.mime_type}" if known else f"not a known image: {kind.mime_type}"
    raise UpstreamFailed(
        f"{came} {len(data)} bytes, which is {why} (it begins with {data[:_SHOWN_BYTES].hex(' ')}). "
        "It was not stored; try again."
    )


def _without_image(body: JsonObject) -> GatewayError:
    reason, text = wire.finish_reason(body), wire.text_of(body)[:_EXCERPT_CHARS]
    details: JsonObject = {"finish_reason": reason}
    if text:
        said = f"Gemini answered with text in place of an image: “{text}”. Ask for an image in the prompt."
        return EmptyResponse(said, details={**details, "text": text})
    message = next((str(one["finishMessage"]) for one in wire.candidates(body) if one.get("finishMessage")), "")
    said = f" It says: {message[:_EXCERPT_CHARS]}" if message else ""
    if reason in (None, "STOP", "NO_IMAGE", "MAX_TOKENS", "IMAGE_OTHER", "FINISH_REASON_UNSPECIFIED"):
        return EmptyResponse(
            f"Gemini made no image (finish reason {reason or 'missing'}); try again, or change the prompt.{said}",
            details=details,
        )
    return ResponseBlocked(
        f"Gemini withheld the image (finish reason {reason}); change the prompt or the input images.{said}",
        details=details,
    )


async def _all_kept(
    call: Call, asked: ImagesAsked, number: int, files: list[_File], store: Callable[[], ImageStore]
) -> list[_Kept]:
    return [await _kept(call, asked, number, file, store) for file in files]


async def _kept(call: Call, asked: ImagesAsked, number: int, file: _File, store: Callable[[], ImageStore]) -> _Kept:
    """Stored; or with its bytes, and why not."""
    data, (mime_type, width, height, _) = file
    metadata = {"model": asked.model, "prompt": asked.prompt, "request-id": call.request_id}
    try:
        stored = await store().put_image(data, mime_type, metadata=metadata)
    except Exception as error:  # noqa: BLE001 - logged and told; the image must not be lost with it
        why = _told(call, error)
        reason = why.message if isinstance(why, StorageUnavailable) else "the storage failed"
        lost = StorageUnavailable(f"The image is in b64_json, since it could not be stored: {reason}")
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        return MadeImage(number, mime_type, width, height, len(data), sha256, None, data), lost
    kept = data if asked.keep_bytes else None
    return MadeImage(number, mime_type, width, height, stored.size_bytes, stored.sha256, stored.name, kept), None


async def _finished(keeping: Coroutine[Any, Any, list[_Kept]]) -> list[_Kept]:
    """Also when the caller has gone meanwhile: what was paid for is then at least among the stored images."""
    task = asyncio.ensure_future(keeping)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _told(call: Call, error: BaseException) -> GatewayError:
    """What a caller is told of one image; it costs no other one."""
    if not isinstance(error, Exception):
        raise error
    return told(error, RequestRecord("images", call.method, call.request_id, call.received_s))


def failures_json(failures: Sequence[Failure]) -> list[JsonObject]:
    return [{"index": number, "code": error.code, "message": error.message} for number, error in failures]


def _all_failed(failures: Sequence[Failure]) -> GatewayError:
    error = failures[0].error
    if len(failures) > 1:
        error.details = {**(error.details or {}), "errors": failures_json(failures)}
    return error
