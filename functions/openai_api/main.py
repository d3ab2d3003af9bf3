"""/v1: the API that OpenAI's clients speak, answered by Gemini."""

from starlette.responses import Response

from shared.http.endpoint import Call, endpoint
from shared.openai_api.api import OPENAI
from shared.openai_api.routes import handler_for


@endpoint(api=OPENAI, bearer_is_credential=True)
async def openai_api(call: Call) -> Response:
    return await handler_for(call.method, call.route)(call)
