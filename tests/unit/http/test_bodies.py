"""Bodies read by a model: what is wrong is said in a sentence that names the field and the way out."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest
from pydantic import Field, ValidationInfo, field_validator

from shared.errors import BadRequest
from shared.http.bodies import NOT_BLANK, Body, GenerationBody, Text, read


class Guest(Body):
    name: Text
    age: int | None = None


class Invitation(GenerationBody):
    title: Text = Field(description="What is celebrated.")
    kind: Literal["dinner", "party"] = "party"
    loud: bool = False
    warmth: float = Field(20.0, ge=0, le=40)
    guests: list[Guest] = Field(default_factory=list, max_length=2)
    picture: str | None = Field(None, min_length=1)

    @field_validator("kind")
    @classmethod
    def _not_both(cls, kind: str, info: ValidationInfo) -> str:
        if kind == "dinner" and info.data.get("title") == "Dance":
            raise ValueError("must be party for a dance")
        return kind


def test_what_is_right_is_read_as_it_was_sent() -> None:
    read_body = read(Invitation, {"title": " Ada's birthday ", "guests": [{"name": "Bob"}], "picture": "aGk="})
    assert (read_body.title, read_body.guests[0].name, read_body.picture) == (" Ada's birthday ", "Bob", "aGk=")
    assert (read_body.kind, read_body.model, read_body.credentials) == ("party", None, None)


def test_a_text_is_empty_of_the_same_characters_wherever_it_is_read() -> None:
    characters = [chr(code) for code in range(0x11_0000)]
    assert [c for c in characters if not re.search(NOT_BLANK, c)] == [c for c in characters if not c.strip()]


def test_credentials_are_left_to_who_authenticates() -> None:
    assert (
        read(Invitation, {"title": "x", "credentials": {"gemini_api_key": "AQ.x", "other": 1}}).credentials is not None
    )


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"title": None}, "title", "title must be a string, not null."),
        ({"title": ""}, "title", "title is empty; send a text."),
        ({"title": " \n\u3000"}, "title", "title is empty; send a text."),
        ({"title": ["x"]}, "title", "title must be a string, not a list."),
        ({"titel": "x"}, "titel", "titel is not known here; did you mean title."),
        ({"y" * 1000: "x"}, "y" * 100 + "…", "y… is not known here; it may be"),
        ({"": "x"}, '""', '"" is not known here; it may be'),
        ({"kind": "feast"}, "kind", "kind must be 'dinner' or 'party'."),
        ({"title": "Dance", "kind": "dinner"}, "kind", "kind must be party for a dance."),
        ({"loud": "yes"}, "loud", "loud must be true or false, not a string."),
        ({"loud": 1}, "loud", "loud must be true or false, not a number."),
        ({"warmth": "20"}, "warmth", "warmth must be a number, not a string."),
        ({"warmth": 41}, "warmth", "warmth is not valid: input should be less than or equal to 40."),
        ({"guests": {"name": "Bob"}}, "guests", "guests must be a list, not an object."),
        ({"guests": ["Bob"]}, "guests[0]", "guests[0] must be an object, not a string."),
        ({"guests": [{"name": "Bob"}, {}]}, "guests[1].name", "guests[1].name is required."),
        (
            {"guests": [{"name": "Bob", "age": 2.5}]},
            "guests[0].age",
            "guests[0].age must be a whole number, not a number.",
        ),
        ({"picture": ""}, "picture", "picture is empty."),
        ({"model": 3}, "model", "model must be a string, not a number."),
    ],
)
def test_the_first_field_that_is_wrong_is_named(change: dict[str, Any], field: str, sentence: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(Invitation, {"title": "Ada's birthday", **change})
    assert refused.value.details == {"field": field}
    assert sentence in refused.value.message


def test_of_more_names_than_there_are_fields_the_first_unknown_one_is_told_whatever_else_is_wrong() -> None:
    with pytest.raises(BadRequest) as refused:
        read(Invitation, {"title": 1, **{f"unknown{number}": 1 for number in range(1000)}})
    assert refused.value.details == {"field": "unknown0"}


def test_a_field_that_is_missing_is_told_with_what_it_is_for() -> None:
    with pytest.raises(BadRequest, match=r"^title is required: What is celebrated\.$"):
        read(Invitation, {})


def test_no_sentence_quotes_what_was_sent() -> None:
    with pytest.raises(BadRequest) as refused:
        read(Invitation, {"title": "x", "kind": "AQ.secret", "guests": "AQ.secret"})
    assert "AQ.secret" not in refused.value.message
