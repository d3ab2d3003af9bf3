"""POST /image-analysis: an image and a question -> the answer as text."""

from functions.image_analysis.models import Request
from shared.bodies import read
from shared.chat import chat_answer, model_for, native_body
from shared.endpoint import Call, endpoint
from shared.generation import JsonObject
from shared.image_inputs import MAX_TOTAL_BYTES
from shared.media.input_image import checked, decoded, inline_part


@endpoint()
async def image_analysis(call: Call) -> JsonObject:
    asked = read(Request, await call.json())
    image = checked(decoded(asked.image, "image", MAX_TOTAL_BYTES), "image", MAX_TOTAL_BYTES)
    body = native_body([{"role": "user", "parts": [inline_part(image), {"text": asked.prompt}]}])
    return chat_answer(await call.generate(model_for(asked.model, "chat", call.settings), body), call.request_id)
