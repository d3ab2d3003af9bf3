"""The specification (OpenAPI 3.1): what every endpoint.json says, the models beside it, and the tree of errors. Pure.

A function's models.py exports `Request` and `Answer`; where one pair is not enough (several paths, answers that are not
JSON) also `OPERATIONS`, which maps "POST /path" to an Operation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from shared import errors
from shared.errors import GatewayError
from shared.gemini.models import ID_PATTERN, MODELS, TABLE
from shared.generation import JsonObject
from shared.http.bodies import GenerationBody, ImageBody
from shared.http.manifest import Manifest
from shared.openapi.components import (
    DESCRIPTION,
    ERROR,
    EVERY_HEADER,
    GENERATION_HEADERS,
    HEADERS,
    SECURITY,
    SECURITY_OF_THE_ADMIN,
    SECURITY_SCHEMES,
    parameters,
)
from shared.settings.settings import Settings

OPENAPI = "3.1.0"
_TEXT_MODELS = frozenset({"pro", "flash", "flash_lite", "open"})
_SCHEMAS = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of one path takes and answers. A model is None where there is no JSON of ours."""

    answer: type[BaseModel] | None = None
    request: type[BaseModel] | None = None
    summary: str | None = None
    """Where endpoint.json's description, which is the whole function's, is not enough."""
    events: Sequence[type[BaseModel]] = ()
    """What the server-sent events hold where the answer may come as such, besides an error's body."""
    media: Mapping[str, JsonObject] = field(default_factory=dict)
    """Further content types of the answer, each with its media type object."""
    below: Sequence[str] | None = None
    """What may stand in place of `*` in the path; None is anything."""
    responses: Mapping[str, JsonObject] = field(default_factory=dict)
    """Further statuses, besides `status` and those of errors."""
    query: Mapping[str, JsonObject] = field(default_factory=dict)
    """Parameters of the query: name -> parameter object without name and place."""
    status: int = 200
    admin_only: bool = False
    """Needs the admin key, though the function is public otherwise."""

    @property
    def generates(self) -> bool:
        return self.request is not None and issubclass(self.request, GenerationBody)


@dataclass(frozen=True, slots=True)
class Server:
    """What the specification tells of the server that it comes from."""

    version: str
    models: tuple[str, ...]
    """Names that a caller may give and that are answered with text, whether the table's own or older ones."""
    request_timeout_s: float
    max_body_bytes: int
    image_models: tuple[str, ...]
    """As `models`, of those that are answered with images."""

    @classmethod
    def of(cls, settings: Settings) -> Server:
        added = [name for name in settings.model_limits if name not in MODELS]
        text = [name for name, info in MODELS.items() if info.kind in _TEXT_MODELS]
        image = [name for name, info in MODELS.items() if info.image_output]
        override = settings.model_override
        if override is not None and override not in MODELS:
            text.append(override)
        return cls(
            settings.version,
            _with_older([*text, *added]),
            settings.request_timeout_s,
            settings.max_body_bytes,
            _with_older([*image, *added]),
        )


def _with_older(served: Sequence[str]) -> tuple[str, ...]:
    older = [name for name in (*TABLE.successors, *TABLE.stand_ins) if TABLE.resolve(name).canonical in served]
    return tuple(dict.fromkeys([*served, *older]))


def operations(manifest: Manifest, models: Mapping[str, Any]) -> dict[str, Operation]:
    """By "POST /path". `models` are the names that the function's models.py has; {} if there is none."""
    ordinary = Operation(models.get("Answer"), models.get("Request"))
    given: Mapping[str, Operation] = models.get("OPERATIONS", {})
    keys = [f"{method} {pattern}" for pattern, methods in manifest.paths.items() for method in methods]
    if strangers := given.keys() - keys:
        raise ValueError(
            f"OPERATIONS of {manifest.name} has {', '.join(sorted(strangers))}, which endpoint.json has not"
        )
    return {key: given.get(key, ordinary) for key in keys}


def document(functions: Sequence[tuple[Manifest, Mapping[str, Operation]]], server: Server) -> JsonObject:
    """The whole specification. `functions` are the manifests with their `operations`."""
    names, schemas = _component_schemas(functions, server)
    paths: dict[str, JsonObject] = {}
    for manifest, given in functions:
        for key, operation in given.items():
            method, pattern = key.split()
            described = _operation(manifest, pattern, operation, names, schemas)
            described["operationId"] = operation_id(manifest, method, pattern)
            paths.setdefault(template(pattern), {})[method.lower()] = described
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "Gemini Concurrent Generation",
            "version": server.version,
            "description": DESCRIPTION.format(limit_mb=server.max_body_bytes // 2**20),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "Where this specification comes from."}],
        "tags": [
            {"name": "generation", "description": "Answered by Gemini."},
            {"name": "server", "description": "Answered by the gateway itself."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": parameters(server.request_timeout_s),
            "headers": HEADERS,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def template(pattern: str) -> str:
    """endpoint.json's pattern as OpenAPI writes it."""
    return pattern.replace("/*", "/{path}")


def operation_id(manifest: Manifest, method: str, pattern: str) -> str:
    """The function's name; where it has several operations, with what tells them apart."""
    words = "_".join(re.findall(r"[A-Za-z0-9]+", template(pattern))).lower() or "root"
    name = manifest.name if len(manifest.paths) == 1 or words == manifest.name else f"{manifest.name}_{words}"
    return name if len(manifest.paths[pattern]) == 1 else f"{name}_{method.lower()}"


# -- one operation -----------------------------------------------------------------------------------------------------


def _operation(
    manifest: Manifest, pattern: str, operation: Operation, names: Mapping[type[BaseModel], str], schemas: JsonObject
) -> JsonObject:
    result: JsonObject = {
        "summary": operation.summary or manifest.description,
        "tags": ["generation" if operation.generates else "server"],
        "security": SECURITY_OF_THE_ADMIN if operation.admin_only else SECURITY[manifest.access],
        "parameters": _parameters_of(manifest, pattern, operation),
        "responses": {
            str(operation.status): _answer(operation, names, schemas),
            **{status: _with_every_header(response) for status, response in operation.responses.items()},
            **{
                str(status): _failure(status, told)
                for status, told in sorted(failures(_traits(manifest, pattern, operation)).items())
            },
        },
    }
    if operation.request is not None:
        name = names[operation.request]
        content: JsonObject = {"schema": {"$ref": _SCHEMAS + name}}
        content["examples"] = {
            f"{number}": {"value": value} for number, value in enumerate(_examples(schemas[name]), 1)
        }
        result["requestBody"] = {"required": True, "content": {"application/json": content}}
    return result


def _parameters_of(manifest: Manifest, pattern: str, operation: Operation) -> list[JsonObject]:
    used = ["x-request-id"]
    if _reads_credential(manifest, operation):
        used.append("x-caller-id")
    if operation.generates:
        used += ["x-priority", "x-request-timeout"]
    result: list[JsonObject] = [{"$ref": f"#/components/parameters/{name}"} for name in used]
    if pattern.endswith("/*"):
        schema: JsonObject = {"type": "string"}
        if operation.below is not None:
            schema["enum"] = list(operation.below)
        result.insert(0, {"name": "path", "in": "path", "required": True, "schema": schema})
    return [*result, *({"name": name, "in": "query", **about} for name, about in operation.query.items())]


def _reads_credential(manifest: Manifest, operation: Operation) -> bool:
    return manifest.access != "public" or operation.admin_only


def _answer(operation: Operation, names: Mapping[type[BaseModel], str], schemas: JsonObject) -> JsonObject:
    content: JsonObject = {}
    if operation.answer is not None:
        content["application/json"] = {"schema": {"$ref": _SCHEMAS + names[operation.answer]}}
    if operation.events:
        content["text/event-stream"] = _events([names[model] for model in operation.events], schemas)
    content.update(operation.media)
    headers = list(EVERY_HEADER)
    if operation.generates:
        headers += GENERATION_HEADERS
    answer: JsonObject = {"description": "The answer.", "headers": _header_references(headers)}
    return answer if operation.status == 204 else {**answer, "content": content}


def _events(names: Sequence[str], schemas: JsonObject) -> JsonObject:
    """OpenAPI 3.1 has no way to describe a stream's parts; tools take the schema of text/event-stream for one event's."""
    data = {"anyOf": [{"$ref": _SCHEMAS + name} for name in (*names, "Error")]}
    return {
        "schema": {
            "type": "object",
            "description": "One event of many. What fails later than the first one is an event named `error`.",
            "required": ["data"],
            "properties": {
                "event": {"enum": ["message", "error"]},
                "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
            },
        },
        "example": "".join(f"data: {json.dumps(_examples(schemas[name])[0])}\n\n" for name in names),
    }


def _with_every_header(response: JsonObject) -> JsonObject:
    return {**response, "headers": {**_header_references(EVERY_HEADER), **response.get("headers", {})}}


def _header_references(names: Sequence[str]) -> JsonObject:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _examples(schema: JsonObject) -> list[Any]:
    """The body's own examples; else one that is made of its fields'."""
    if given := schema.get("examples"):
        return list(given)
    properties: JsonObject = schema.get("properties", {})
    return [{name: value["examples"][0] for name, value in properties.items() if value.get("examples")}]


# -- errors ------------------------------------------------------------------------------------------------------------


def _traits(manifest: Manifest, pattern: str, operation: Operation) -> set[str]:
    """What an operation does that may fail: the words of _OCCASIONS."""
    return {
        "always",
        *(["credential"] if _reads_credential(manifest, operation) else []),
        *(["anonymous"] if manifest.access == "anonymous" else []),
        *(["body"] if operation.request is not None else []),
        *(["below"] if pattern.endswith("/*") else []),
        *(["generation"] if operation.generates else []),
        *(["own_key"] if operation.generates and manifest.access != "public" else []),
        *(["query"] if operation.query else []),
        *(["range"] if "206" in operation.responses else []),
        *(["storage"] if manifest.storage != "none" else []),
        *(["object"] if operation.answer is not None and "data" in operation.answer.model_fields else []),
    }


_OCCASIONS: dict[type[GatewayError], set[str]] = {
    errors.GatewayError: {"always"},
    errors.BadRequest: {"body", "credential", "query"},
    errors.CostExceedsLimit: {"generation"},
    errors.PromptBlocked: {"generation"},
    errors.RejectedByGemini: {"generation"},
    errors.Unauthorized: {"credential"},
    errors.InvalidGeminiKey: {"own_key"},
    errors.Forbidden: {"anonymous"},
    errors.NotFound: {"below"},
    errors.ModelNotFound: {"generation"},
    errors.MethodNotAllowed: set(),
    errors.PayloadTooLarge: {"body"},
    errors.UnsupportedMediaType: {"body"},
    errors.RangeNotSatisfiable: {"range"},
    errors.RateLimited: {"generation"},
    errors.CallerNoQuota: {"own_key"},
    errors.CallerGone: set(),
    errors.UpstreamFailed: {"generation"},
    errors.NonconformingAnswer: {"object"},
    errors.Unavailable: {"always"},
    errors.LedgerUnavailable: {"generation"},
    errors.NoServerKey: {"generation"},
    errors.NoQuota: {"generation"},
    errors.QueueFull: {"generation"},
    errors.StorageUnavailable: {"storage"},
    errors.UpstreamTimeout: {"generation"},
}
"""Where an error is told: for one that is not named here, its parent's line holds."""


def tree(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    """Every error that shared.errors has, parents first."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def failures(traits: set[str]) -> dict[int, list[type[GatewayError]]]:
    """Status -> the errors that an operation with these traits may answer."""
    found: dict[int, list[type[GatewayError]]] = {}
    for error in tree():
        occasions = next(_OCCASIONS[base] for base in error.__mro__ if base in _OCCASIONS)
        if occasions & traits:
            found.setdefault(error.status, []).append(error)
    return found


def meanings() -> dict[str, str]:
    """Code -> what it means, "" where the code says it all; from the tree that shared.errors begins with."""
    lines = re.findall(r"^[│├└─ ]+\w+(?: \d{3})? +([a-z_]+)(?: {2,}(.+))?$", errors.__doc__ or "", re.MULTILINE)
    return dict(lines)


def _failure(status: int, told: Sequence[type[GatewayError]]) -> JsonObject:
    said = {"internal_error": "a defect of the gateway; its log has the details under the request's id", **meanings()}
    codes = [error.code for error in told]
    lines = [f"- `{code}`" + (f": {said[code]}" if said.get(code) else "") for code in codes]
    narrowed = {"properties": {"error": {"properties": {"code": {"enum": codes}, "status": {"const": status}}}}}
    retries = ["retry-after"] * (status in (429, 502, 503, 504)) + ["x-should-retry"] * (status in (429, 503))
    return {
        "description": "\n".join(lines),
        "headers": _header_references([*EVERY_HEADER, *retries]),
        "content": {"application/json": {"schema": {"allOf": [{"$ref": _SCHEMAS + "Error"}, narrowed]}}},
    }


# -- components --------------------------------------------------------------------------------------------------------


class _Schemas(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """A title that only repeats the field's name is left out."""
        return False


def _component_schemas(
    functions: Sequence[tuple[Manifest, Mapping[str, Operation]]], server: Server
) -> tuple[dict[type[BaseModel], str], JsonObject]:
    """The names of the models, unique over all functions (ChatRequest), and every schema by its name."""
    names: dict[type[BaseModel], str] = {}
    for manifest, given in functions:
        words = "".join(word.capitalize() for word in manifest.name.split("_"))
        for operation in given.values():
            for model in (operation.request, operation.answer, *operation.events):
                if model is not None:
                    names.setdefault(model, words + model.__name__)
    asked: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in names]
    references, definitions = models_json_schema(asked, ref_template=_SCHEMAS + "{model}", schema_generator=_Schemas)
    renamed = {references[model, mode]["$ref"].removeprefix(_SCHEMAS): names[model] for model, mode in asked}
    schemas: JsonObject = {
        "Error": ERROR,
        "Model": _model_schema(server.models),
        "ImageModel": _model_schema(server.image_models),
    }
    for name, schema in definitions.get("$defs", {}).items():
        new = renamed.get(name, name)
        schemas[new] = {**_with_references(schema, renamed), "title": new}
    for model, name in names.items():
        if issubclass(model, GenerationBody):
            kind = "ImageModel" if issubclass(model, ImageBody) else "Model"
            schemas[name]["properties"]["model"]["anyOf"][0] = {"$ref": _SCHEMAS + kind}
    return names, dict(sorted(schemas.items()))


def _with_references(value: Any, renamed: Mapping[str, str]) -> Any:
    """`value` with the new names wherever it refers to a schema."""
    if isinstance(value, list):
        return [_with_references(item, renamed) for item in value]
    if not isinstance(value, dict):
        return value
    result = {name: _with_references(item, renamed) for name, item in value.items()}
    reference = result.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix(_SCHEMAS)
        result["$ref"] = _SCHEMAS + renamed.get(name, name)
    return result


def _model_schema(models: Sequence[str]) -> JsonObject:
    return {
        "type": "string",
        "description": "The models that this server knows, or any other Gemini model's id: that one is passed on, and Gemini "
        "decides. Names that move, and those of retired models, are served by the models that succeed them.",
        "anyOf": [{"enum": list(models)}, {"pattern": f"^(models/)?{ID_PATTERN}$"}],
    }
