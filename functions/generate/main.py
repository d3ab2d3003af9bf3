"""POST /generate: a prompt, and optional input images -> stored images with their URLs."""

from functools import partial

from starlette.responses import Response

from functions.generate.answer import answer
from functions.generate.inputs import input_reader
from functions.generate.models import Request
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint
from shared.images.generation import ImageRequest, generate_images, image_model


@endpoint()
async def generate(call: Call) -> Response | JsonObject:
    request = await _request(call)
    result = await generate_images(
        call.generator, request, lambda: call.services.media, call.work, call.public_error, call.request_id
    )
    return await call.work(partial(answer, call, result), result.data_bytes)


async def _request(call: Call) -> ImageRequest:
    sent = await call.read(Request)
    return ImageRequest(
        prompt=sent.prompt,
        model=image_model(call.model_for(sent.model, "image"), call.settings.models),
        count=sent.number_of_images,
        aspect_ratio=sent.aspect_ratio,
        image_size=sent.image_size,
        system_prompt=sent.system_prompt,
        inputs=await input_reader(call).read(sent.input_images or ()),
        keep_bytes=sent.response_format == "b64_json",
    )
