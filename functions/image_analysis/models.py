"""What POST /image-analysis takes and answers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.bodies import Base64, GenerationAnswer, GenerationBody, Text


class Request(GenerationBody):
    image: Base64 = Field(description="The image, in base64.", examples=["iVBORw0KGgo="])
    mime_type: Literal["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"] = "image/png"
    prompt: Text = Field("Describe this image.", description="The question.", examples=["How many people are there?"])


class Answer(GenerationAnswer):
    text: str = Field(examples=["Three people sit at a table."])
