"""The JSON schemas of all bodies, generated from their pydantic models. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from shared.gemini.models import ID_PATTERN
from shared.generation import JsonObject
from shared.http.bodies import GenerationBody, ImageBody
from shared.http.manifest import Manifest
from shared.openapi.components import ERROR
from shared.openapi.operation import Operation

SCHEMAS = "#/components/schemas/"


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """Omits a title that only repeats the field's name."""
        return False


def component_schemas(
    functions: Sequence[tuple[Manifest, Mapping[str, Operation]]], models: Sequence[str], image_models: Sequence[str]
) -> tuple[dict[type[BaseModel], str], JsonObject]:
    """The names of all pydantic models, unique over all functions (ChatRequest), and every schema by its name. `models` and
    `image_models` are the model ids that a caller may send."""
    names: dict[type[BaseModel], str] = {}
    for manifest, given in functions:
        words = "".join(word.capitalize() for word in manifest.name.split("_"))
        for operation in given.values():
            for model in (operation.request, operation.answer, *operation.events, *operation.lines):
                if model is not None:
                    names.setdefault(model, words + model.__name__)
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in names]
    references, definitions = models_json_schema(modes, ref_template=SCHEMAS + "{model}", schema_generator=_Generator)
    renamed = {references[model, mode]["$ref"].removeprefix(SCHEMAS): names[model] for model, mode in modes}
    schemas: JsonObject = {
        "Error": ERROR,
        "Model": _model_schema(models),
        "ImageModel": _model_schema(image_models),
    }
    for _, given in functions:
        schemas.update({one.errors.name: one.errors.schema for one in given.values() if one.errors is not None})
    for name, schema in definitions.get("$defs", {}).items():
        new = renamed.get(name, name)
        schemas[new] = {**_with_references(schema, renamed), "title": new}
    for model, name in names.items():
        if issubclass(model, GenerationBody):
            kind = "ImageModel" if issubclass(model, ImageBody) else "Model"
            schemas[name]["properties"]["model"]["anyOf"][0] = {"$ref": SCHEMAS + kind}
    for _, given in functions:
        for operation in given.values():
            if operation.form and operation.request is not None:
                _as_form(schemas[names[operation.request]])
    return names, dict(sorted(schemas.items()))


def _as_form(schema: JsonObject) -> None:
    """A form has no null: a field without a value is left out."""
    for name, field in schema["properties"].items():
        kept = [one for one in field.get("anyOf", ()) if one != {"type": "null"}]
        if len(kept) == 1:
            described = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
            schema["properties"][name] = {**described, **kept[0]}


def _with_references(value: Any, renamed: Mapping[str, str]) -> Any:
    """`value` with the new names in every reference to a schema."""
    if isinstance(value, list):
        return [_with_references(item, renamed) for item in value]
    if not isinstance(value, dict):
        return value
    result = {name: _with_references(item, renamed) for name, item in value.items()}
    reference = result.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix(SCHEMAS)
        result["$ref"] = SCHEMAS + renamed.get(name, name)
    return result


def _model_schema(models: Sequence[str]) -> JsonObject:
    return {
        "type": "string",
        "description": "A model that this server knows, or the id of any other Gemini model, which is passed on to Gemini. "
        "Aliases and retired names are served by their successors.",
        "anyOf": [{"enum": list(models)}, {"pattern": f"^(models/)?{ID_PATTERN}$"}],
    }
