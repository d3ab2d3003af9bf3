"""The bodies of POST /image-analysis."""

from __future__ import annotations

from pydantic import Field

from shared.http.bodies import GenerationAnswer, GenerationBody, Text


class Request(GenerationBody):
    image: str = Field(
        min_length=1,
        description="The image, in base64 or as a data URL. PNG, JPEG, WebP, HEIC or HEIF, of at most 20 MB.",
        examples=["iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="],
    )
    mime_type: str | None = Field(
        None, description="Not needed: the type is read from the image itself.", examples=["image/png"]
    )
    prompt: Text = Field("Describe this image.", description="The question.", examples=["How many people are there?"])


class Answer(GenerationAnswer):
    text: str = Field(examples=["Three people sit at a table."])
