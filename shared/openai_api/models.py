"""GET /v1/models and /v1/models/{id}: the models, with the caller's limits and what of them is used."""

from __future__ import annotations

from starlette.responses import Response

from shared.http.call import Call
from shared.http.response import JsonResponse
from shared.openai_api.projects import projects_of
from shared.openai_format.model_list import canonical_id, model_ids, model_object


async def list_models(call: Call) -> Response:
    settings, projects = call.settings, await projects_of(call)
    found = []
    for model_id in model_ids(settings.models, settings.model_limits):
        use = projects.use(canonical_id(model_id, settings.models, settings.model_limits))
        found.append(model_object(model_id, settings.models, use.as_json()))
    return JsonResponse({"object": "list", "data": found})


async def retrieve_model(call: Call) -> Response:
    settings = call.settings
    model_id = call.path_parameters["id"].removeprefix("models/")
    canonical = canonical_id(model_id, settings.models, settings.model_limits)
    projects = await projects_of(call)
    return JsonResponse(model_object(model_id, settings.models, projects.use(canonical).as_json()))
