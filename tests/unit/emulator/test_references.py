"""References in a made-up answer lead to ids in it, wherever names or descriptions show which those are."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from shared.emulator.schema_answers import from_openapi, value_for

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}


def objects(**properties: Any) -> dict[str, Any]:
    """An array of objects in which everything is required."""
    return {"type": "array", "items": record(**properties)}


def record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def answer(schema: dict[str, Any], seed: int = 1) -> Any:
    """Conforms to the schema, whatever was made of its references."""
    value = value_for(schema, seed, "the topic")
    Draft202012Validator(schema).validate(value)
    return value


def test_ids_are_named_for_their_array_and_distinct() -> None:
    value = answer(record(scenes=objects(id=TEXT, text=TEXT), categories={**objects(id=TEXT), "minItems": 3}))
    assert [scene["id"] for scene in value["scenes"]] == ["scene-1", "scene-2"]
    assert [category["id"] for category in value["categories"]] == ["category-1", "category-2", "category-3"]
    assert value["scenes"][0]["text"].startswith("Offline")


def test_ids_of_one_name_are_distinct_wherever_they_are() -> None:
    value = answer(record(chapters=objects(scenes=objects(id=TEXT))))
    ids = [scene["id"] for chapter in value["chapters"] for scene in chapter["scenes"]]
    assert ids == ["scene-1", "scene-2", "scene-3", "scene-4"]


@pytest.mark.parametrize("name", ["scene_id", "sceneId", "sceneID"])
def test_a_text_refers_by_its_name(name: str) -> None:
    value = answer(record(scenes=objects(id=TEXT), props=objects(**{name: TEXT})))
    assert [prop[name] for prop in value["props"]] == ["scene-1", "scene-2"]


@pytest.mark.parametrize("name", ["scene_ids", "sceneIds"])
def test_references_are_distinct_and_cover_all_ids(name: str) -> None:
    scenes = {**objects(id=TEXT), "minItems": 3}
    value = answer(record(chapters=objects(**{name: TEXTS}), scenes=scenes))
    assert [chapter[name] for chapter in value["chapters"]] == [["scene-1", "scene-2"], ["scene-3", "scene-1"]]


@pytest.mark.parametrize(
    "reference",
    [{**TEXT, "description": "`narrator`, or one of `characters`."}, {**TEXTS, "description": "Ids of `characters`."}],
    ids=["a text", "texts"],
)
def test_a_property_of_any_name_refers_by_its_description(reference: dict[str, Any]) -> None:
    value = answer(record(characters=objects(id=TEXT), lines=objects(speaker=reference)))
    said = [line["speaker"] for line in value["lines"]]
    assert said in (["character-1", "character-2"], [["character-1", "character-2"]] * 2)


def test_definitions_are_followed() -> None:
    schema = {
        "$defs": {"Id": TEXT, "Scene": record(id={"$ref": "#/$defs/Id"}, next_ids=TEXTS)},
        **record(scenes={"type": "array", "items": {"$ref": "#/$defs/Scene"}}, scene_id={"$ref": "#/$defs/Id"}),
    }
    value = answer(schema)
    assert (value["scenes"][1]["id"], value["scene_id"]) == ("scene-2", "scene-1")


def test_an_openapi_schema_is_followed_too_and_null_stays_null() -> None:
    text = {"type": "STRING"}
    item = {"type": "OBJECT", "properties": {"id": text, "scene_id": {**text, "nullable": True}}, "required": ["id"]}
    value = answer(from_openapi({"type": "OBJECT", "properties": {"scenes": {"type": "ARRAY", "items": item}}}))
    assert [scene["id"] for scene in value["scenes"]] == ["scene-1", "scene-2"]
    assert all(scene.get("scene_id") in (None, "scene-1", "scene-2") for scene in value["scenes"])


def test_fewer_ids_than_a_list_needs_leave_it_as_it_is() -> None:
    schema = record(scenes={**objects(id=TEXT), "maxItems": 1}, scene_ids={**TEXTS, "minItems": 2, "uniqueItems": True})
    assert len(set(answer(schema)["scene_ids"])) == 2


def test_fewer_ids_than_a_list_has_are_each_in_it_once() -> None:
    schema = record(scenes={**objects(id=TEXT), "maxItems": 1}, scene_ids={**TEXTS, "uniqueItems": True})
    assert answer(schema)["scene_ids"] == ["scene-1"]


def test_no_ids_at_all_leave_references_as_they_are() -> None:
    value = answer(record(scenes={**objects(id=TEXT), "maxItems": 0}, scene_id=TEXT))
    assert value["scene_id"].startswith("Offline")


@pytest.mark.parametrize(
    "text",
    [
        {"type": "string", "format": "uuid"},
        {"type": "string", "enum": ["one", "two"]},
        {"type": "string", "minLength": 20},
        {"type": "string", "maxLength": 3},
        {"const": "one"},
        {"type": "integer"},
        {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    ],
    ids=str,
)
def test_what_is_not_free_text_stays_as_its_schema_has_it(text: dict[str, Any]) -> None:
    for seed in range(10):
        by_id = answer(record(scenes=objects(id=text), scene_id=TEXT), seed)
        assert not str(by_id["scenes"][0]["id"]).startswith("scene-")
        assert by_id["scene_id"].startswith("Offline")
        by_reference = answer(record(scenes=objects(id=TEXT), scene_id=text), seed)
        assert by_reference["scenes"][0]["id"] == "scene-1"


def test_ambiguous_name_is_not_a_reference() -> None:
    two = record(scenes=objects(id=TEXT), one=record(scene_id=TEXT), other=record(scene_id={"enum": ["x"]}))
    value = answer(two)
    assert (value["one"]["scene_id"][:7], value["other"]["scene_id"]) == ("Offline", "x")
    twice = record(one=record(scenes=objects(id=TEXT)), other=record(scenes=objects(id={"enum": ["x", "y"]})))
    assert answer(twice)["one"]["scenes"][0]["id"].startswith("Offline")


def test_the_same_seed_gives_the_same_answer() -> None:
    schema = record(scenes=objects(id=TEXT, text=TEXT), chapters=objects(scene_ids=TEXTS))
    assert answer(schema, 7) == answer(schema, 7) != answer(schema, 8)
