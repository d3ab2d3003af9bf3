"""POST /structured-output: a content, an instruction and a JSON Schema -> an object that conforms to the schema."""

from functools import partial

from starlette.responses import Response

from functions.structured_output.models import Request
from shared.chat.chat import model_for
from shared.chat.generation_config import generation_config
from shared.generation import JsonObject
from shared.http.bodies import read
from shared.http.endpoint import Call, endpoint
from shared.http.response import JsonResponse
from shared.structured.json_schema import Schema, check_schema
from shared.structured.output import generate_object, object_body, unchecked_header


@endpoint()
async def structured_output(call: Call) -> Response:
    asked, schema = await call.read(partial(_read, source=await call.body()))
    headers = unchecked_header(schema)
    body = object_body(
        asked.user_content, asked.system_prompt, schema.document, generation_config(asked.generation_config)
    )
    model = model_for(asked.model, "structured_output", call.settings)
    return JsonResponse(await generate_object(call, model, body, schema, headers), headers=headers)


def _read(values: JsonObject, source: bytes) -> tuple[Request, Schema]:
    asked = read(Request, values)
    return asked, check_schema(asked.json_schema, assert_formats=bool(asked.assert_formats), source=source)
