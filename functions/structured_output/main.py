"""POST /structured-output: content, an instruction and a JSON Schema -> an object that conforms to the schema."""

from functools import partial

from starlette.responses import Response

from functions.structured_output.models import Request
from shared.chat.generation_config import native_config
from shared.http.endpoint import Call, endpoint
from shared.http.response import JsonResponse, generation_answer
from shared.structured.json_schema import Schema, check_schema
from shared.structured.output import generate_object, object_body, unchecked_header


@endpoint()
async def structured_output(call: Call) -> Response:
    asked, schema = await call.read(Request, partial(_with_schema, source=await call.body()))
    headers = unchecked_header(schema)
    body = object_body(asked.user_content, asked.system_prompt, schema.document, native_config(asked.generation_config))
    model = call.model_for(asked.model, "structured_output")
    data, ending = await generate_object(call.generator, model, body, schema, headers)
    return JsonResponse(generation_answer({"data": data}, ending, call.request_id), headers=headers)


def _with_schema(asked: Request, source: bytes) -> tuple[Request, Schema]:
    return asked, check_schema(asked.json_schema, assert_formats=bool(asked.assert_formats), source=source)
