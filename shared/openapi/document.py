"""Generates the specification (OpenAPI 3.1) from every endpoint.json, the models beside it, and the errors. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from shared.errors import GatewayError
from shared.gemini.models import MODELS, TABLE
from shared.generation import JsonObject
from shared.http.manifest import Manifest
from shared.http.routes import as_template, is_wildcard, parameter_names
from shared.openapi.components import (
    DESCRIPTION,
    EVERY_HEADER,
    GENERATION_HEADERS,
    HEADERS,
    SECURITY,
    SECURITY_OF_THE_ADMIN,
    SECURITY_SCHEMES,
    parameters,
)
from shared.openapi.failures import FAILURES, failures, traits_of
from shared.openapi.operation import Operation, reads_credential
from shared.openapi.schemas import SCHEMAS, component_schemas
from shared.settings.settings import Settings

OPENAPI = "3.1.0"
_TEXT_MODELS = frozenset({"pro", "flash", "flash_lite", "open"})


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


def document(functions: Sequence[tuple[Manifest, Mapping[str, Operation]]], server: Server) -> JsonObject:
    """The whole specification. `functions` are the manifests with their `operations`."""
    names, schemas = component_schemas(functions, server.models, server.image_models)
    paths: dict[str, JsonObject] = {}
    for manifest, given in functions:
        for key, operation in given.items():
            method, pattern = key.split()
            described = _operation(manifest, pattern, operation, names, schemas)
            described["operationId"] = operation_id(manifest, method, pattern)
            paths.setdefault(as_template(pattern), {})[method.lower()] = described
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


def operation_id(manifest: Manifest, method: str, pattern: str) -> str:
    """The function's name; where it has several operations, with what tells them apart."""
    words = "_".join(re.findall(r"[A-Za-z0-9]+", as_template(pattern))).lower() or "root"
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
                str(status): _error_response(status, possible)
                for status, possible in sorted(failures(traits_of(manifest, pattern, operation)).items())
            },
        },
    }
    if operation.request is not None:
        name = names[operation.request]
        content: JsonObject = {"schema": {"$ref": SCHEMAS + name}}
        content["examples"] = {
            f"{number}": {"value": value} for number, value in enumerate(_examples(schemas[name]), 1)
        }
        result["requestBody"] = {"required": True, "content": {"application/json": content}}
    return result


def _parameters_of(manifest: Manifest, pattern: str, operation: Operation) -> list[JsonObject]:
    used = ["x-request-id"]
    if reads_credential(manifest, operation):
        used.append("x-caller-id")
    if operation.generates:
        used += ["x-priority", "x-request-timeout"]
    result: list[JsonObject] = [{"$ref": f"#/components/parameters/{name}"} for name in used]
    query: list[JsonObject] = [{"name": name, "in": "query", **about} for name, about in operation.query.items()]
    return [*_path_parameters(pattern, operation), *result, *query]


def _path_parameters(pattern: str, operation: Operation) -> list[JsonObject]:
    described = dict(operation.path_parameters)
    if is_wildcard(pattern) and operation.below is not None:
        described["path"] = {"schema": {"type": "string", "enum": list(operation.below)}}
    string: JsonObject = {"schema": {"type": "string"}}
    return [
        {"name": name, "in": "path", "required": True, **string, **described.get(name, {})}
        for name in parameter_names(as_template(pattern))
    ]


def _answer(operation: Operation, names: Mapping[type[BaseModel], str], schemas: JsonObject) -> JsonObject:
    content: JsonObject = {}
    if operation.answer is not None:
        content["application/json"] = {"schema": {"$ref": SCHEMAS + names[operation.answer]}}
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
    data = {"anyOf": [{"$ref": SCHEMAS + name} for name in (*names, "Error")]}
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


def _error_response(status: int, possible: Sequence[type[GatewayError]]) -> JsonObject:
    codes = [error.code for error in possible]
    meanings = [FAILURES[error].meaning for error in possible]
    lines = [
        f"- `{code}`: {meaning}" if meaning else f"- `{code}`" for code, meaning in zip(codes, meanings, strict=True)
    ]
    narrowed = {"properties": {"error": {"properties": {"code": {"enum": codes}, "status": {"const": status}}}}}
    retries = ["retry-after"] * (status in (429, 502, 503, 504)) + ["x-should-retry"] * (status in (429, 503))
    return {
        "description": "\n".join(lines),
        "headers": _header_references([*EVERY_HEADER, *retries]),
        "content": {"application/json": {"schema": {"allOf": [{"$ref": SCHEMAS + "Error"}, narrowed]}}},
    }
