"""The responses of the image paths: an image's bytes, the list of recent images, and 204."""

from __future__ import annotations

from pydantic import BaseModel, Field

from functions.image.serving import MAX_PAGE_SIZE, PAGE_SIZE
from shared.generation import JsonObject
from shared.media.names import EXTENSIONS, PATTERN
from shared.openapi.operation import Operation


class Image(BaseModel):
    """A stored image. Type and size are read from the file, null if unknown."""

    name: str
    url: str = Field(description="The image's URL, readable without a credential.")
    model: str | None = Field(description="The model that created the image.", examples=["gemini-3-pro-image"])
    created: str = Field(description="When it was stored, in UTC.", examples=["2026-01-31T12:00:00.000Z"])
    mime_type: str = Field(examples=["image/png"])
    width: int | None = Field(description="Pixels.", examples=[1376])
    height: int | None = Field(examples=[768])
    size_bytes: int
    sha256: str
    prompt: str | None = Field(
        None, description="The beginning of the prompt, if the operator keeps prompts; otherwise absent."
    )


class Answer(BaseModel):
    images: list[Image] = Field(description="Newest first.")
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last page.")


_OF_THE_IMAGE: JsonObject = {
    "etag": {"description": "The SHA-256 of the image, in quotes.", "schema": {"type": "string"}},
    "cache-control": {
        "description": "The bytes never change; max-age is the image's lifetime.",
        "schema": {"type": "string"},
    },
}
_BYTES: dict[str, JsonObject] = {mime_type: {} for mime_type in (*EXTENSIONS, "application/octet-stream")}

OPERATIONS = {
    "GET /image/*": Operation(
        summary="A stored image. Its name is the credential.",
        media=_BYTES,
        responses={
            "206": {
                "description": "The bytes requested by Range.",
                "headers": {
                    **_OF_THE_IMAGE,
                    "content-range": {
                        "description": "First and last byte, and the size.",
                        "schema": {"type": "string"},
                    },
                },
                "content": _BYTES,
            },
            "302": {
                "description": "A signed URL, valid for some minutes; only if IMAGE_URLS is `signed`.",
                "headers": {"location": {"description": "The URL in the bucket.", "schema": {"type": "string"}}},
            },
            "304": {"description": "The version in If-None-Match is current.", "headers": _OF_THE_IMAGE},
        },
    ),
    "GET /images": Operation(
        Answer,
        summary="The recent images. Needs the admin key.",
        admin_only=True,
        query={
            "limit": {
                "description": "Maximum number of images.",
                "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": PAGE_SIZE},
            },
            "cursor": {
                "description": "`next_cursor` of the previous page; the newest images if absent.",
                "schema": {"type": "string", "pattern": f"^{PATTERN}$"},
            },
        },
    ),
    "DELETE /images/*": Operation(summary="Deletes an image. Needs the admin key.", admin_only=True, status=204),
}
