"""The bodies of POST /generate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.http.bodies import AnswerBody, Between, ImageBody, Text, UsageBody
from shared.images.choices import MAX_IMAGES, MAX_INPUTS, AspectRatio, ImageSize


class Request(ImageBody):
    prompt: Text = Field(description="What the image should show.", examples=["A lighthouse at night, in oil."])
    number_of_images: Annotated[int, Between(1, MAX_IMAGES)] = Field(
        1, description="Each image is one request to Gemini and counts as one."
    )
    aspect_ratio: AspectRatio | None = Field(
        None,
        description="Width to height; the model chooses if absent. 1:4, 1:8, 4:1 and 8:1 need a flash model.",
        examples=["16:9"],
    )
    image_size: ImageSize | None = Field(
        None, description="1K if absent. Larger images cost more; not every model makes every size."
    )
    input_images: list[Text] | None = Field(
        None,
        max_length=MAX_INPUTS,
        description="Images to edit or to use as references: base64, a data URL, the name or URL of an image stored by this "
        "server, or an https URL. PNG, JPEG, WebP, HEIC or HEIF, at most 7 MB each.",
    )
    response_format: Literal["url", "b64_json"] = Field(
        "url", description="b64_json: also return the bytes in base64, as far as they fit into a response."
    )
    system_prompt: str | None = Field(None, description="Instructions for the model.")


class MadeImage(AnswerBody):
    """A generated image. Type and size are read from the file."""

    index: int = Field(description="Number of the requested image, from 0.", examples=[0])
    url: str | None = Field(description="The image's URL; null if it could not be stored.")
    name: str | None
    mime_type: str = Field(examples=["image/png"])
    width: int | None = Field(description="Pixels.", examples=[1376])
    height: int | None = Field(examples=[768])
    size_bytes: int
    sha256: str
    b64_json: str = Field("", description="The bytes, if requested or if the image could not be stored.")


class Failed(AnswerBody):
    """Why an image was not generated, not stored or left out of the response."""

    index: int
    code: str = Field(examples=["response_blocked"])
    message: str


class Answer(AnswerBody):
    images: list[MadeImage] = Field(
        description="At least one: if none could be generated, the response is the first error."
    )
    errors: list[Failed]
    text: str = Field(description="Text that the model returned with the images; usually empty.")
    model: str = Field(description="The model that created the images.", examples=["gemini-3-pro-image"])
    usage: UsageBody
    request_id: str = Field(description="As in the header x-request-id, and in the log.")
