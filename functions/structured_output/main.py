"""POST /structured-output: a content, an instruction and a JSON Schema -> an object that conforms to the schema."""

from functions.structured_output.models import Request
from shared.bodies import read
from shared.chat import model_for
from shared.endpoint import Call, endpoint
from shared.generation import JsonObject
from shared.generation_config import generation_config
from shared.json_schema import check_schema
from shared.structured_output import generate_object, object_body


@endpoint()
async def structured_output(call: Call) -> JsonObject:
    asked = read(Request, await call.json())
    schema = check_schema(asked.json_schema)
    body = object_body(
        asked.user_content, asked.system_prompt, schema.document, generation_config(asked.generation_config)
    )
    model = model_for(asked.model, "structured_output", call.settings)
    return await generate_object(call, model, body, schema.problems)
