"""POST /generate: a prompt, and images to start from if any -> images, stored and linked to."""

from functools import partial

from starlette.responses import Response

from functions.generate.answer import answer
from functions.generate.models import Request
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint
from shared.images.generation import ImagesAsked, generate_images, image_model
from shared.images.inputs import read_inputs


@endpoint()
async def generate(call: Call) -> Response | JsonObject:
    asked = await _asked(call)
    made = await generate_images(call, asked, lambda: call.services.media)
    return await call.work(partial(answer, call, made), sum(len(image.data or b"") for image in made.images))


async def _asked(call: Call) -> ImagesAsked:
    sent = await call.read(Request)
    model = image_model(call.model_for(sent.model, "image"))
    return ImagesAsked(
        prompt=sent.prompt,
        model=model,
        count=sent.number_of_images,
        aspect_ratio=sent.aspect_ratio,
        image_size=sent.image_size,
        system_prompt=sent.system_prompt,
        inputs=await read_inputs(call, sent.input_images or ()),
        keep_bytes=sent.response_format == "b64_json",
    )
