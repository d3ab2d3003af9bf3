"""POST /v1/images/generations and /v1/images/edits: images by Gemini, stored and linked to."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial

import orjson
from starlette.responses import Response

from shared.clock import unix_s
from shared.generation import UNKNOWN_USAGE
from shared.http.bodies import read
from shared.http.call import Call
from shared.http.forms import FormFile, received_form
from shared.http.large_response import MAX_IMAGE_BYTES, in_chunks
from shared.http.response import JsonResponse
from shared.images.choices import MAX_INPUTS, MAX_TOTAL_BYTES
from shared.images.generation import ImageRequest, ImageResult, failures_json, generate_images, image_model
from shared.images.links import image_url
from shared.images.room import room
from shared.media.input_image import InputImage, checked
from shared.openai_format.image_bodies import EditsBody, GenerationsBody, Made, form_values, images_answer

_FILES = {"image": MAX_INPUTS, "image[]": MAX_INPUTS, "mask": 1, "markup": 1}


async def generations(call: Call) -> Response:
    return await _made(call, await call.read(GenerationsBody), ())


async def edits(call: Call) -> Response:
    async with received_form(call, _FILES, max_bytes=MAX_TOTAL_BYTES) as form:
        names = {name: [file.filename for file in files] for name, files in form.files.items()}
        body = read(EditsBody, form_values(form.fields, names))
        inputs = await _inputs(call, [*form.files.get("image", ()), *form.files.get("image[]", ())])
        return await _made(call, body, inputs)


async def _inputs(call: Call, files: Sequence[FormFile]) -> list[InputImage]:
    return [
        await call.work(partial(checked, file.data, f"image[{index}]"), len(file.data))
        for index, file in enumerate(files)
    ]


async def _made(call: Call, body: GenerationsBody, inputs: Sequence[InputImage]) -> Response:
    table = call.settings.models
    model = image_model(call.model_for(body.model, "image"), table)
    ratio, size = body.shape(table.resolve(model).canonical)
    request = ImageRequest(
        prompt=body.prompt,
        model=model,
        count=body.n or 1,
        aspect_ratio=ratio,
        image_size=size,
        inputs=inputs,
        keep_bytes=body.response_format != "url",
    )
    result = await generate_images(
        call.generator, request, lambda: call.services.media, call.work, call.public_error, call.request_id
    )
    return await call.work(partial(_answer, call, result, of_text=not inputs), result.data_bytes)


def _answer(call: Call, result: ImageResult, *, of_text: bool, max_bytes: int = MAX_IMAGE_BYTES) -> Response:
    shown, left_out, fits = room(result.images, max_bytes)
    images = [
        Made(
            None if image.name is None else image_url(image.name, call.base_url),
            base64.b64encode(image.data or b"").decode() if has_bytes else None,
            image.mime_type,
            image.width,
            image.height,
        )
        for image, has_bytes in zip(result.images, shown, strict=True)
    ]
    usage = call.timeline.usage or UNKNOWN_USAGE
    errors = [*failures_json(result.failures), *left_out]
    body = images_answer(int(unix_s()), images, errors, usage, of_text=of_text)
    return JsonResponse(body) if fits else in_chunks(orjson.dumps(body))
