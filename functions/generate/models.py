"""What POST /generate takes and answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.http.bodies import AnswerBody, Between, ImageBody, Text, UsageBody
from shared.images.generation import MAX_IMAGES, AspectRatio, ImageSize
from shared.images.inputs import MAX_INPUTS


class Request(ImageBody):
    prompt: Text = Field(description="What the image is to show.", examples=["A lighthouse at night, in oil."])
    number_of_images: Annotated[int, Between(1, MAX_IMAGES)] = Field(
        1, description="Each is a request to Gemini of its own, and counts as one."
    )
    aspect_ratio: AspectRatio | None = Field(
        None,
        description="Width to height; without it the model's choice. The long ones are for the flash models.",
        examples=["16:9"],
    )
    image_size: ImageSize | None = Field(
        None, description="The larger, the dearer; without it 1K. Not every model makes every size."
    )
    input_images: list[Text] | None = Field(
        None,
        max_length=MAX_INPUTS,
        description="Images to edit or to follow: base64, a data URL, the name or URL of an image that was made here, or "
        "an https URL. PNG, JPEG, WebP, HEIC or HEIF, of at most 7 MB.",
    )
    response_format: Literal["url", "b64_json"] = Field(
        "url", description="b64_json: with their bytes in base64 too, as far as they fit into an answer."
    )
    system_prompt: str | None = Field(None, description="What the model is told to be and to do.")


class MadeImage(AnswerBody):
    """Type and size are read from the file."""

    index: int = Field(description="Which of the images asked for, from 0.", examples=[0])
    url: str | None = Field(description="Where it is; null if it could not be stored.")
    name: str | None
    mime_type: str = Field(examples=["image/png"])
    width: int | None = Field(description="Pixels.", examples=[1376])
    height: int | None = Field(examples=[768])
    size_bytes: int
    sha256: str
    b64_json: str = Field("", description="Its bytes, where they were asked for, or where it could not be stored.")


class Failed(AnswerBody):
    """An image that was not made, or not stored, or too large to be in the answer."""

    index: int
    code: str = Field(examples=["response_blocked"])
    message: str


class Answer(AnswerBody):
    images: list[MadeImage] = Field(description="At least one: if none was made, the first one's error is the answer.")
    errors: list[Failed]
    text: str = Field(description="What the model said beside the images; mostly nothing.")
    model: str = Field(description="The model that answered.", examples=["gemini-3-pro-image"])
    usage: UsageBody
    request_id: str = Field(description="As in the header x-request-id, and in the log.")
