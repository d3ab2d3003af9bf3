"""/v1: the API that OpenAI's clients speak, answered by Gemini."""

from starlette.responses import Response

from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint
from shared.openai_api.api import OPENAI
from shared.openai_api.routes import HANDLERS


@endpoint(api=OPENAI, bearer_is_credential=True)
async def openai_api(call: Call) -> Response | JsonObject:
    return await HANDLERS.answer(call)
