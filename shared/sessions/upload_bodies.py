"""The forms, bodies and answers of uploads. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from shared.generation import JsonObject
from shared.http.bodies import AnswerBody, Between, Body, Text
from shared.http.multipart import MAX_FILENAME_CHARS

_MAX_TYPE_CHARS = 200
_MAX_BYTES = 2 << 30
"""Of every setting of MAX_UPLOAD_MB; the setting itself is checked afterwards."""


class UploadForm(Body):
    """A form (multipart/form-data) with one file."""

    file: str = Field(
        description="An image, audio, video, a PDF or a text, with its file name; its type is taken from its content.",
        json_schema_extra={"format": "binary"},
    )
    session_id: str | None = Field(
        None,
        description="The session that gets the file, or `new`; else the header or the cookie names it.",
        examples=["new"],
    )


class ResumableBody(Body):
    """With `?resumable=1`: announces a file that is sent to the upload_url of the answer."""

    name: Annotated[Text, StringConstraints(max_length=MAX_FILENAME_CHARS)] = Field(
        description="The name of the file.", examples=["film.mp4"]
    )
    size_bytes: Annotated[int, Between(1, _MAX_BYTES)] = Field(description="The exact size of the file, in bytes.")
    type: Annotated[str, StringConstraints(max_length=_MAX_TYPE_CHARS)] = Field(
        "", description="Its type. It counts only for what the content leaves open, as the kind of a text."
    )
    session_id: str | None = Field(
        None,
        description="The session that gets the file, or `new`; else the header or the cookie names it.",
        examples=["new"],
    )


class UploadAnswer(AnswerBody):
    """The file is stored, and goes to Gemini with the session's next message. With `?resumable=1`: where its bytes go."""

    success: Literal[True]
    message: str
    id: str = Field(examples=["file-ff5eb0a1c2d3" + "0123456789abcdef" * 2])
    name: str | None = Field(None, examples=["photo.png"])
    type: str | None = Field(None, description="By the content of the file.", examples=["image/png"])
    size_bytes: int | None = None
    upload_url: str | None = Field(
        None,
        description="With `?resumable=1`, in place of the three before: takes the bytes by PUT, without a credential.",
    )
    session_id: str = Field(examples=["ff5eb0a1c2d3" + "0123456789abcdef" * 2])


class ContentAnswer(AnswerBody):
    """The bytes have arrived."""

    success: Literal[True]
    message: str
    id: str
    size_bytes: int


def form_values(fields: Mapping[str, Sequence[str]], filename: str) -> JsonObject:
    """The JSON object that the form stands for. `fields`: those that are not files. A field that is sent twice is a list."""
    return {"file": filename, **{name: texts[0] if len(texts) == 1 else list(texts) for name, texts in fields.items()}}
