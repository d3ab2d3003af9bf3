"""POST /image-analysis: an image and a question -> a text."""

from functions.image_analysis.models import Request
from shared.gemini.native_body import native_body
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint
from shared.images.choices import MAX_TOTAL_BYTES
from shared.media.input_image import checked, decoded, inline_part


@endpoint()
async def image_analysis(call: Call) -> JsonObject:
    model, body = await call.read(Request, _native)
    return await call.answer_text(model, body)


def _native(asked: Request) -> tuple[str | None, JsonObject]:
    """The model, and the native body."""
    image = checked(decoded(asked.image, "image", MAX_TOTAL_BYTES), "image", MAX_TOTAL_BYTES)
    return asked.model, native_body([{"role": "user", "parts": [inline_part(image), {"text": asked.prompt}]}])
