"""What the images' paths answer: bytes, a list of the recent ones, and nothing."""

from __future__ import annotations

from pydantic import BaseModel, Field

from shared.generation import JsonObject
from shared.images.serving import LISTED, MAX_LISTED
from shared.media.names import EXTENSIONS, PATTERN
from shared.openapi.operation import Operation


class Image(BaseModel):
    """Type and size are read from the file; what is not known of it is null."""

    name: str
    url: str = Field(description="Where it is, for anybody.")
    model: str | None = Field(description="That made it.", examples=["gemini-3-pro-image"])
    created: str = Field(description="When it was stored, in UTC.", examples=["2026-01-31T12:00:00.000Z"])
    mime_type: str = Field(examples=["image/png"])
    width: int | None = Field(description="Pixels.", examples=[1376])
    height: int | None = Field(examples=[768])
    size_bytes: int
    sha256: str
    prompt: str | None = Field(None, description="Its beginning, where the operator has prompts kept; else absent.")


class Answer(BaseModel):
    images: list[Image] = Field(description="The newest first.")
    next_cursor: str | None = Field(description="The next page's cursor; null: there is none.")


_OF_THE_IMAGE: JsonObject = {
    "etag": {"description": "The SHA-256 of the image, in quotes.", "schema": {"type": "string"}},
    "cache-control": {"description": "Its bytes never change; max-age ends with it.", "schema": {"type": "string"}},
}
_BYTES: dict[str, JsonObject] = {mime_type: {} for mime_type in (*EXTENSIONS, "application/octet-stream")}

OPERATIONS = {
    "GET /image/*": Operation(
        summary="A stored image, to anybody who knows its name.",
        media=_BYTES,
        responses={
            "206": {
                "description": "The bytes that Range asks for.",
                "headers": {
                    **_OF_THE_IMAGE,
                    "content-range": {"description": "Which of how many they are.", "schema": {"type": "string"}},
                },
                "content": _BYTES,
            },
            "302": {
                "description": "Where the image is for some minutes; only where IMAGE_URLS is `signed`.",
                "headers": {"location": {"description": "At the bucket.", "schema": {"type": "string"}}},
            },
            "304": {"description": "What If-None-Match names still holds.", "headers": _OF_THE_IMAGE},
        },
    ),
    "GET /images": Operation(
        Answer,
        summary="The recent images, for the admin.",
        admin_only=True,
        query={
            "limit": {
                "description": "How many at most.",
                "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LISTED, "default": LISTED},
            },
            "cursor": {
                "description": "`next_cursor` of the page before; without it the newest.",
                "schema": {"type": "string", "pattern": f"^{PATTERN}$"},
            },
        },
    ),
    "DELETE /images/*": Operation(summary="Deletes an image, for the admin.", admin_only=True, status=204),
}
