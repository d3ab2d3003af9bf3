"""The bodies of POST /v1/images/generations and /v1/images/edits, and their answer. Pure.

What Gemini has no setting for is refused with a sentence, or has no effect: the fields' descriptions say which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema, field_validator

from shared.generation import JsonObject, Usage
from shared.http.bodies import Absent, AnswerBody, Between, ImageBody, Rule, Text
from shared.images.choices import MAX_IMAGES, MAX_INPUTS, MAX_RATIO, AspectRatio, ImageSize, nearest

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_SIZE_RULE = (
    f'must be "auto" or WIDTHxHEIGHT in pixels, like 1536x1024, with sides that differ at most {MAX_RATIO} times'
)
_OFF = "must be absent or false"
_NO_COMPRESSION = "must be absent or 100: Gemini has no such setting"
_PNG = 'must be "png" or absent: the model chooses the file type, which is in each image\'s mime_type'
_NUMBERS = ("n", "output_compression", "partial_images")
"""Fields that a form sends as text."""
_WHOLE = re.compile(r"-?[0-9]{1,9}")


def _off(value: bool) -> bool:
    if value:
        raise ValueError(_OFF)
    return value


_Off = Annotated[bool, AfterValidator(_off), WithJsonSchema({"type": "boolean", "const": False})]
"""Not Literal[False], which takes 0 too."""


class GenerationsBody(ImageBody):
    """The fields of both paths. An optional field may be null."""

    prompt: Text = Field(description="What the image should show.", examples=["A lighthouse at night, in oil."])
    n: Annotated[int, Between(1, MAX_IMAGES)] | None = Field(
        None, description="How many images; 1 if absent. Each is one request to Gemini and counts as one."
    )
    size: Annotated[
        Annotated[str, StringConstraints(pattern=rf"^(auto|{_SIZE.pattern})(?![\s\S])")] | None, Rule(_SIZE_RULE)
    ] = Field(
        None,
        description="The nearest aspect ratio and resolution of the model are used, by shape and by number of pixels. "
        "Without it, or with auto, the model chooses.",
        examples=["1536x1024"],
    )
    response_format: Literal["url", "b64_json"] | None = Field(
        None, description="url: links only; b64_json or absent: also the bytes, as far as they fit into a response."
    )
    output_format: Annotated[Literal["png"] | None, Rule(_PNG)] = Field(
        None, description="The model chooses the file type, usually PNG; `mime_type` of each image says which it is."
    )
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = Field(
        None, description="Has no effect; `size` sets the resolution."
    )
    background: Annotated[
        Literal["auto", "opaque"] | None, Rule('must be "auto" or "opaque": Gemini makes no transparent images')
    ] = Field(None, description="Gemini's images are opaque.")
    moderation: Literal["auto", "low"] | None = Field(None, description="Has no effect; Gemini's own filters apply.")
    user: str | None = Field(None, description="The caller's name, where several share one admin key.")
    safety_identifier: str | None = Field(None, description="Has no effect.")
    stream: Annotated[_Off | None, Rule(f"{_OFF}: images are not streamed")] = None
    partial_images: Annotated[
        Annotated[int, Between(0, 0)] | None, Rule("must be absent or 0: images are not streamed")
    ] = None
    output_compression: Annotated[Annotated[int, Between(100, 100)] | None, Rule(_NO_COMPRESSION)] = None
    style: Annotated[Absent, Rule("is not supported; describe the style in prompt")] = None
    complexity: Annotated[Absent, Rule("is not supported; leave it out")] = None
    frame_count: Annotated[Absent, Rule("is not supported, since Gemini makes no animations; leave it out")] = None
    frame_duration_ms: Annotated[Absent, Rule("is not supported, since Gemini makes no animations; leave it out")] = (
        None
    )
    svg: Annotated[Absent, Rule("is not supported, since Gemini makes no vector images; leave it out")] = None

    @field_validator("size")
    @classmethod
    def _shape(cls, size: str | None) -> str | None:
        found = _SIZE.fullmatch(size or "")
        if found is not None:
            short, long = sorted((int(found[1]), int(found[2])))
            if long > MAX_RATIO * short:
                raise ValueError(_SIZE_RULE)
        return size

    def shape(self, model: str) -> tuple[AspectRatio | None, ImageSize | None]:
        """The ratio and size that `model`, a canonical id, is asked for."""
        found = _SIZE.fullmatch(self.size or "")
        return (None, None) if found is None else nearest(int(found[1]), int(found[2]), model)


class EditsBody(GenerationsBody):
    """A form (multipart/form-data) with the images as files."""

    prompt: Text = Field(description="What to change.", examples=["Make it a rainy night."])
    credentials: Annotated[Absent, Rule("is not read from a form; send the credential in a header")] = None
    image: list[str] = Field(
        min_length=1,
        max_length=MAX_INPUTS,
        description="The images to edit or to follow, as files named `image` or `image[]`: PNG, JPEG, WebP, HEIC or HEIF, at "
        "most 7 MB each and 20 MB together.",
        json_schema_extra={"items": {"type": "string", "format": "binary"}},
    )
    input_fidelity: Literal["high", "low"] | None = Field(
        None, description="Has no effect; the model keeps to the images."
    )
    mask: Annotated[Absent, Rule("is not supported; describe in prompt which part to change")] = None
    markup: Annotated[Absent, Rule("is not supported; describe in prompt which part to change")] = None


def form_values(fields: Mapping[str, Sequence[str]], files: Mapping[str, Sequence[str]]) -> JsonObject:
    """The JSON object that a form stands for. `files`: the names of the files in each field."""
    values: JsonObject = {name: _value(name, texts) for name, texts in fields.items()}
    images = [file for name, given in files.items() if name in ("image", "image[]") for file in given]
    values.update({name: given[0] for name, given in files.items() if name not in ("image", "image[]") and given})
    return {**values, "image": images} if images else values


def _value(name: str, texts: Sequence[str]) -> object:
    """A number or a boolean where the field has one; a text that is neither stays, for the error."""
    if len(texts) > 1:
        return list(texts)
    text = texts[0]
    if name in _NUMBERS and _WHOLE.fullmatch(text):
        return int(text)
    return {"true": True, "false": False}.get(text, text) if name == "stream" else text


# -- the answer --------------------------------------------------------------------------------------------------------


class Image(AnswerBody):
    """A generated image. OpenAI's fields are `url` and `b64_json`."""

    url: str | None = Field(description="The image's URL; null if it could not be stored.")
    b64_json: str = Field("", description="The bytes, unless only URLs are requested or the response has no room.")
    mime_type: str = Field(examples=["image/png"])
    width: int | None = Field(description="Pixels.", examples=[1264])
    height: int | None = Field(examples=[848])


class ImageError(AnswerBody):
    """Why an image was not generated, not stored, or left out of the response."""

    index: int = Field(description="Number of the requested image, from 0.")
    code: str = Field(examples=["response_blocked"])
    message: str


class TokenDetails(AnswerBody):
    text_tokens: int | None
    image_tokens: int | None


class ImageUsage(AnswerBody):
    """Tokens as counted by Gemini, over all images; null where Gemini reported none."""

    input_tokens: int | None
    input_tokens_details: TokenDetails
    output_tokens: int | None = Field(description="With the tokens of thinking.")
    total_tokens: int | None


class ImagesAnswer(AnswerBody):
    """The images that succeeded, at least one."""

    created: int = Field(description="Unix time in seconds.")
    data: list[Image]
    errors: list[ImageError] = Field(description="What failed besides. OpenAI's own API has no such field.")
    usage: ImageUsage


class Made(NamedTuple):
    """What the answer shows of one image."""

    url: str | None
    b64_json: str | None
    mime_type: str
    width: int | None
    height: int | None


def images_answer(
    created: int, images: Sequence[Made], errors: Sequence[JsonObject], usage: Usage, *, of_text: bool
) -> JsonObject:
    """`of_text`: the request had no images, so all its input tokens are of text."""
    data = [image._asdict() for image in images]
    for entry in data:
        if entry["b64_json"] is None:
            del entry["b64_json"]
    total, prompt = usage.total_tokens, usage.prompt_tokens
    known = of_text and prompt is not None
    return {
        "created": created,
        "data": data,
        "errors": sorted(errors, key=lambda error: int(error["index"])),
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"text_tokens": prompt if known else None, "image_tokens": 0 if known else None},
            "output_tokens": None if total is None or prompt is None else total - prompt,
            "total_tokens": total,
        },
    }
