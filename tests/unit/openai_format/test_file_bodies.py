"""The form, queries and answers of OpenAI's files."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import BadRequest
from shared.files.record import StoredFile
from shared.http.bodies import read
from shared.openai_format.file_bodies import (
    MAX_PAGE,
    ExpiresAfter,
    FileForm,
    ListQuery,
    attachment,
    file_json,
    form_values,
    list_json,
    list_query,
)

FILE = StoredFile("file-1", "object", "a.txt", "vision", "text/plain", 3, 10, 20)
AFTER = "file-" + "0" * 44


def form(**fields: Any) -> FileForm:
    return read(FileForm, form_values({name: [value] for name, value in fields.items()}, "a.txt"))


def test_fields_in_brackets_are_one_object() -> None:
    """As openai-python and curl send `expires_after`."""
    body = form(purpose="vision", **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    assert body == FileForm(
        file="a.txt", purpose="vision", expires_after=ExpiresAfter(anchor="created_at", seconds=3600)
    )


def test_purpose_has_a_default() -> None:
    assert form().purpose == "user_data"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"purpose": "other"}, "purpose"),
        ({"purpose": ""}, "purpose"),
        ({"tag": "x"}, "tag"),
        ({"expires_after": "3600"}, "expires_after"),
        ({"expires_after": "{"}, "expires_after"),
        ({"expires_after": '{"anchor": "created_at"}'}, "expires_after.seconds"),
        ({"expires_after[anchor]": "created_at"}, "expires_after.seconds"),
        ({"expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "expires_after.seconds"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "2592001"}, "expires_after.seconds"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "1e4"}, "expires_after.seconds"),
        ({"expires_after[days]": "1"}, "expires_after.days"),
    ],
)
def test_invalid_field_is_named(fields: dict[str, str], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        form(**fields)
    assert (caught.value.details or {})["field"] == field


def test_repeated_field_is_rejected() -> None:
    with pytest.raises(BadRequest, match=r"^purpose must be"):
        read(FileForm, form_values({"purpose": ["vision", "vision"]}, "a"))


def test_query_of_a_list() -> None:
    assert list_query({}) == ListQuery(None, MAX_PAGE, True, None)
    given = {"after": AFTER, "limit": "5", "order": "asc", "purpose": "vision"}
    assert list_query(given) == ListQuery(AFTER, 5, False, "vision")


@pytest.mark.parametrize(
    ("name", "value"),
    [("after", "x"), ("limit", "0"), ("limit", "10001"), ("limit", "1.5"), ("limit", "9" * 5000), ("order", "up")],
)
def test_invalid_query_is_named(name: str, value: str) -> None:
    with pytest.raises(BadRequest) as caught:
        list_query({name: value})
    assert caught.value.details == {"field": name}


def test_answers() -> None:
    shown = file_json(FILE)
    assert shown == {
        "id": "file-1",
        "object": "file",
        "bytes": 3,
        "created_at": 10,
        "expires_at": 20,
        "filename": "a.txt",
        "purpose": "vision",
        "status": "processed",
    }
    rest = {"object": "list", "has_more": True}
    assert list_json([FILE], has_more=True) == {"data": [shown], "first_id": "file-1", "last_id": "file-1", **rest}
    assert list_json([], has_more=False)["last_id"] is None


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.txt", 'attachment; filename="a.txt"'),
        ("a b;c.txt", 'attachment; filename="a b;c.txt"'),
        ('a"b.txt', "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
        ("ä.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%A4.txt"),
        ("a\r\nx: y", "attachment; filename=\"a__x: y\"; filename*=UTF-8''a%0D%0Ax%3A%20y"),
    ],
)
def test_file_name_in_a_header(name: str, header: str) -> None:
    assert attachment(name) == header
