"""Bodies read by a model: an error names the field and says what to send instead."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator

from shared.errors import BadRequest
from shared.http.bodies import (
    MAX_NAMES,
    NOT_BLANK,
    Absent,
    Between,
    Body,
    GenerationBody,
    OrText,
    Rule,
    Text,
    read,
    wrong,
)


class Guest(Body):
    name: Text
    age: int | None = None
    diet: Annotated[Literal["any", "vegan"] | None, Rule("must be any or vegan; allergies go into notes")] = None
    plus_one: str | None = Field(None, validation_alias=AliasChoices("plus_one", "plusOne"))
    child: bool | None = None

    @model_validator(mode="after")
    def _accompanied(self) -> Guest:
        if self.child and self.plus_one is None:
            raise wrong("plus_one", "is required for a child")
        return self


class Place(Body):
    city: str | None = None
    street: Annotated[str, Rule("must be a street")] = "Main"


class Invitation(GenerationBody):
    title: Text = Field(description="What is celebrated.")
    kind: Literal["dinner", "party"] = "party"
    loud: bool = False
    warmth: Annotated[float, Between(0, 40)] = 20.0
    tables: Annotated[int, Between(1, 8)] | None = None
    guests: list[Guest] = Field(default_factory=list, max_length=2, fail_fast=True)
    picture: str | None = Field(None, min_length=1)
    rooms: list[str] | None = Field(None, min_length=1)
    place: Place | None = None
    music: Annotated[str | list[Guest] | None, OrText("a list of guests who play")] = None
    host: Annotated[str | Place, OrText("a place")] = "Ada"
    budget: Annotated[Absent, Rule("is not supported; leave it out")] = None

    @field_validator("kind")
    @classmethod
    def _not_both(cls, kind: str, info: ValidationInfo) -> str:
        if kind == "dinner" and info.data.get("title") == "Dance":
            raise ValueError("must be party for a dance")
        return kind


def rejected(values: dict[str, Any]) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(Invitation, values)
    return caught.value


def test_values_are_unchanged() -> None:
    read_body = read(Invitation, {"title": " Ada's birthday ", "guests": [{"name": "Bob"}], "picture": "aGk="})
    assert (read_body.title, read_body.guests[0].name, read_body.picture) == (" Ada's birthday ", "Bob", "aGk=")
    assert (read_body.kind, read_body.model, read_body.credentials) == ("party", None, None)


def test_blank_is_what_python_strips() -> None:
    characters = [chr(code) for code in range(0x11_0000)]
    assert [c for c in characters if not re.search(NOT_BLANK, c)] == [c for c in characters if not c.strip()]


def test_credentials_are_accepted_and_hidden() -> None:
    """The edge checks them before a body is read."""
    body = read(Invitation, {"title": "x", "credentials": {"gemini_api_key": "AQ.secret", "other": 1}})
    assert body.credentials is not None
    assert "AQ.secret" not in repr(body)


@pytest.mark.parametrize(("sent", "tables"), [(5, 5), (5.0, 5), (None, None)])
def test_whole_number_may_have_a_point(sent: Any, tables: int | None) -> None:
    made = read(Invitation, {"title": "x", "tables": sent}).tables
    assert (made, type(made)) == (tables, type(tables))


def test_bounds_and_absent_fields_in_the_schema() -> None:
    schema = Invitation.model_json_schema()["properties"]
    assert schema["warmth"] == {"type": "number", "minimum": 0, "maximum": 40, "default": 20.0, "title": "Warmth"}
    assert schema["tables"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 8}
    assert "budget" not in schema


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"title": None}, "title", "title must be a string, not null."),
        ({"title": ""}, "title", "title is empty; send a text."),
        ({"title": " \n\u3000"}, "title", "title is empty; send a text."),
        ({"title": ["x"]}, "title", "title must be a string, not a list."),
        ({"titel": "x"}, "titel", "Unknown field titel. Did you mean title?"),
        ({"y" * 1000: "x"}, "y" * 100 + "…", "y…. Known fields: "),
        ({"": "x"}, '""', 'Unknown field "". Known fields: '),
        ({"kind": "feast"}, "kind", "kind must be 'dinner' or 'party'."),
        ({"title": "Dance", "kind": "dinner"}, "kind", "kind must be party for a dance."),
        ({"loud": "yes"}, "loud", "loud must be true or false, not a string."),
        ({"loud": 1}, "loud", "loud must be true or false, not a number."),
        ({"warmth": "20"}, "warmth", "warmth must be a number from 0 to 40."),
        ({"warmth": 41}, "warmth", "warmth must be a number from 0 to 40."),
        ({"warmth": True}, "warmth", "warmth must be a number from 0 to 40."),
        ({"tables": 0}, "tables", "tables must be a whole number from 1 to 8."),
        ({"tables": 1.5}, "tables", "tables must be a whole number from 1 to 8."),
        ({"tables": "two"}, "tables", "tables must be a whole number from 1 to 8."),
        ({"tables": 1e300}, "tables", "tables must be a whole number from 1 to 8."),
        ({"rooms": []}, "rooms", "rooms is empty; send at least one entry."),
        ({"budget": 5}, "budget", "budget is not supported; leave it out."),
        ({"place": {"street": 5}}, "place.street", "place.street must be a street."),
        ({"place": {"citty": "x"}}, "place.citty", "Unknown field place.citty. Did you mean city?"),
        ({"place": {"zzz": "x"}}, "place.zzz", "Unknown field place.zzz. Known fields: city, street."),
        ({"city": "x"}, "city", 'city must be inside place, like {"place": {"city": ...}}.'),
        ({"name": "x"}, "name", "Unknown field name. Known fields: "),
        (
            {"zzz": 5},
            "zzz",
            "Known fields: credentials, guests, host, kind, loud, model, music, picture, place, rooms, tables, title, warmth.",
        ),
        ({"guests": [{"name": "A"}] * 3}, "guests", "guests must have at most 2 entries, not 3."),
        (
            {"guests": [{"name": "A", "diet": "raw"}]},
            "guests[0].diet",
            "must be any or vegan; allergies go into notes.",
        ),
        ({"guests": [{"name": "A", "child": True}]}, "guests[0].plus_one", "plus_one is required for a child."),
        (
            {"guests": [{"name": "A", "plusOne": "B", "plus_one": "B"}]},
            "guests[0].plusOne",
            "guests[0].plusOne and plus_one are two spellings of one field; send only one of them.",
        ),
        ({"guests": {"name": "Bob"}}, "guests", "guests must be a list, not an object."),
        ({"guests": ["Bob"]}, "guests[0]", "guests[0] must be an object, not a string."),
        (
            {"guests": [{"name": "Bob"}, {}]},
            "guests[1].name",
            "guests[1].name is required; send a text.",
        ),
        (
            {"guests": [{"name": "Bob", "age": 2.5}]},
            "guests[0].age",
            "guests[0].age must be a whole number.",
        ),
        ({"picture": ""}, "picture", "picture is empty; send a text."),
        ({"model": 3}, "model", "model must be a string, not a number."),
    ],
)
def test_wrong_field_is_named(change: dict[str, Any], field: str, sentence: str) -> None:
    error = rejected({"title": "Ada's birthday", **change})
    assert error.details == {"field": field}
    assert sentence in error.message


def test_unknown_field_is_named_before_a_missing_one() -> None:
    """A typing error is usually why a required field is missing."""
    assert rejected({"titel": "x", "loud": 1}).message == "Unknown field titel. Did you mean title?"


@pytest.mark.parametrize("path", ["", "place.", "guests[0]."])
def test_many_unknown_fields_make_one_error(path: str) -> None:
    """pydantic makes an error for each: a body has room for half a million."""
    many = {f"unknown{number}": 1 for number in range(MAX_NAMES + 1)}
    values = {"place.": {"title": "x", "place": many}, "guests[0].": {"title": "x", "guests": [many]}}.get(path, many)
    assert rejected(values).details == {"field": f"{path}unknown0"}


def test_list_stops_at_the_first_wrong_entry() -> None:
    assert rejected({"title": "x", "guests": [{}, 5]}).details == {"field": "guests[0].name"}


def test_missing_field_is_explained() -> None:
    assert rejected({}).message == "title is required; send a text: what is celebrated."


def test_error_does_not_quote_values() -> None:
    assert "AQ.secret" not in rejected({"title": "x", "kind": "AQ.secret", "guests": "AQ.secret"}).message


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ({"music": [{"name": 1}]}, "music[0].name must be a string, not a number."),
        ({"music": [{"name": "Bob", "nme": 1}]}, "Unknown field music[0].nme. Did you mean name?"),
        ({"music": {}}, "music must be a text or a list of guests who play, not an object."),
        ({"music": True}, "music must be a text or a list of guests who play, not a boolean."),
        ({"host": {"city": 1}}, "host.city must be a string, not a number."),
        ({"host": None}, "host must be a text or a place, not null."),
    ],
)
def test_error_names_the_place_inside_the_alternative(sent: dict[str, Any], path: str) -> None:
    """A union of pydantic's would name the alternative too, as music.list[Guest][0].name."""
    assert rejected({"title": "x", **sent}).message == path


def test_text_or_another_type_is_read_and_described() -> None:
    made = read(Invitation, {"title": "x", "music": "jazz", "host": {"city": "Paris"}})
    assert (made.music, made.host) == ("jazz", Place(city="Paris"))
    assert read(Invitation, {"title": "x", "music": None}).music is None
    assert [guest.name for guest in read(Invitation, {"title": "x", "music": [{"name": "Bob"}]}).music or ()] == ["Bob"]
    described = Invitation.model_json_schema()["properties"]
    assert [one.get("type", "$ref") for one in described["music"]["anyOf"]] == ["string", "array", "null"]
    assert [next(iter(one)) for one in described["host"]["anyOf"]] == ["type", "$ref"]
