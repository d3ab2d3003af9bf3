"""The parts of a message's content as parts of a native request. Pure.

Media in the body itself is decoded and checked here. What is stored or at an address comes with the request's `Resolved`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, model_validator

from shared.errors import BadRequest
from shared.generation import JsonObject
from shared.http.bodies import Body, OrText, Rule, wrong
from shared.media.base64_text import decode
from shared.media.image_file import UNKNOWN, identify
from shared.media.input_image import checked, inline_part

MAX_MEDIA_BYTES = 20 * 1024 * 1024
"""Maximum size of one image, recording or file in a body."""
_DATA_URL = "data:"
_YOUTUBE = re.compile(r"https://(?:www\.|m\.)?(?:youtube\.com/|youtu\.be/)", re.IGNORECASE)
_AUDIO = {"mp3": "audio/mp3", "wav": "audio/wav", "m4a": "audio/m4a", "mpeg": "audio/mpeg", "mpga": "audio/mpeg"}
_BY_SUFFIX = {
    "pdf": "application/pdf", "txt": "text/plain", "md": "text/plain", "csv": "text/csv", "html": "text/html",
    "xml": "text/xml", "rtf": "text/rtf", "json": "text/plain", "jsonl": "text/plain", "yaml": "text/plain",
    "yml": "text/plain", "py": "text/plain", "js": "text/plain", "ts": "text/plain", "mp3": "audio/mp3", "wav": "audio/wav",
    "m4a": "audio/m4a", "flac": "audio/flac", "ogg": "audio/ogg", "aac": "audio/aac", "mp4": "video/mp4", "mov": "video/mov",
    "webm": "video/webm", "mpeg": "video/mpeg", "mpg": "video/mpeg",
}  # fmt: skip
_TEXTS = frozenset({"text/plain", "text/html", "text/css", "text/csv", "text/xml", "text/rtf"})
"""Gemini's types of text (ai.google.dev/gemini-api/docs/document-processing). Any other text is sent as text/plain."""
_OTHER_TEXTS = re.compile(
    r"text/.*|application/(?:json|.*\+json|xml|.*\+xml|(?:x-)?(?:yaml|javascript|sh|python|sql|toml|ndjson|jsonl?|typescript))"
)
_FORMAT = Rule("must be the format of the recording, such as wav or mp3")
_TYPE = re.compile(r"[a-z]+/[a-z0-9.+_-]+")


class Media(NamedTuple):
    """Native parts for what a message refers to."""

    files: Mapping[str, JsonObject] = {}
    urls: Mapping[str, JsonObject] = {}


class ImageUrl(Body):
    url: str = Field(min_length=1, description="A data URL, or an address that this server can fetch.")
    detail: str | None = Field(
        None, description="low: a smaller resolution, if every image of the request has it. Otherwise Gemini chooses."
    )
    format: Any = Field(None, description="Ignored: the type is read from the image itself.")


class VideoUrl(Body):
    url: str = Field(min_length=1, description="A data URL, or a video's address on YouTube.")


class InputAudio(Body):
    data: str = Field(min_length=1, description="The recording, in base64.")
    format: Annotated[str, _FORMAT] = Field(
        pattern=r"^[a-z0-9-]{1,20}(?![\s\S])", description="Such as wav or mp3.", examples=["wav"]
    )


class FileContent(Body):
    """A stored file, or a file's own bytes."""

    file_id: str | None = Field(None, min_length=1, description="The id of a file from POST /v1/files.")
    id: str | None = Field(None, min_length=1, description="The same as file_id.")
    file_data: str | None = Field(None, min_length=1, description="A data URL, or base64 with a filename.")
    filename: str | None = Field(None, description="Its suffix gives the type, if file_data does not.")
    format: str | None = Field(None, description="The type, if file_data has none.", examples=["application/pdf"])

    @model_validator(mode="after")
    def _one_source(self) -> FileContent:
        if (self.file_id is None) + (self.id is None) + (self.file_data is None) != 2:
            raise wrong("file_id", "or file_data is required; send exactly one of them")
        return self


_FIELDS = {
    "text": "text",
    "refusal": "refusal",
    "image_url": "image_url",
    "video_url": "video_url",
    "input_audio": "input_audio",
    "file": "file",
}
"""The type of a part -> the field that has its content."""


class Part(Body):
    """One part of a message: its `type` and the field of that name. Gemini's parts are in the same order."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "text", "text": "What is in this image?"}]})

    type: Literal["text", "refusal", "image_url", "video_url", "input_audio", "file"] = Field(
        description="Which of the following fields the part has."
    )
    text: str | None = Field(None, description="Of type text.")
    refusal: str | None = Field(None, description="Of type refusal; sent as text.")
    image_url: Annotated[str | ImageUrl | None, OrText("an object with a url")] = Field(
        None, description="Of type image_url; PNG, JPEG, WebP, HEIC or HEIF."
    )
    video_url: Annotated[str | VideoUrl | None, OrText("an object with a url")] = Field(
        None, description="Of type video_url."
    )
    input_audio: InputAudio | None = Field(None, description="Of type input_audio.")
    file: FileContent | None = Field(None, description="Of type file: a stored file, or a file's bytes.")
    file_id: str | None = Field(None, min_length=1, description="Of type file, in place of `file`.")
    prompt_cache_breakpoint: Any = Field(None, description="Ignored: Gemini caches prompts by itself.")
    cache_control: Any = Field(None, description="Ignored: Gemini caches prompts by itself.")

    @model_validator(mode="after")
    def _one_content(self) -> Part:
        if self.type == "text":
            if self.text is None:
                raise wrong("text", "is required in a part of type text")
        elif self.type == "file" and self.file_id is not None:
            if self.file is not None:
                raise wrong("file_id", "and file are mutually exclusive; send one")
        elif getattr(self, _FIELDS[self.type]) is None:
            raise wrong(_FIELDS[self.type], f"is required in a part of type {self.type}")
        return self

    @property
    def stored_file(self) -> str | None:
        """The id of the stored file that the part names."""
        if self.type != "file":
            return None
        return self.file_id or (self.file.file_id or self.file.id if self.file is not None else None)

    @property
    def address(self) -> str | None:
        """The address of the image that the part names, unless it is a data URL."""
        if self.type != "image_url":
            return None
        url = _url_of(self.image_url)
        return None if _is_data_url(url) else url

    @property
    def written(self) -> str | None:
        """The text of a part that is text."""
        if self.type == "text":
            return self.text
        return self.refusal if self.type == "refusal" else None


def file_field(part: Part, where: str) -> str:
    """The field of the stored file's id, for errors. `where`: the path of the part."""
    if part.file is None:
        return f"{where}.file_id"
    return f"{where}.file.{'id' if part.file.file_id is None else 'file_id'}"


def native_part(part: Part, media: Media, where: str) -> JsonObject:
    """Raises BadRequest that names the field, and KeyError for what `media` should have and does not."""
    text = part.written
    if text is not None:
        return {"text": text}
    if (stored := part.stored_file) is not None:
        return media.files[stored]
    if (address := part.address) is not None:
        return media.urls[address]
    if part.type == "image_url":
        return native_data(_url_of(part.image_url), f"{where}.image_url.url")
    if part.type == "video_url":
        return _video(_url_of(part.video_url), f"{where}.video_url.url")
    if part.input_audio is not None and part.type == "input_audio":
        audio = part.input_audio
        data = _decoded(audio.data, f"{where}.input_audio.data")
        return _inline(_AUDIO.get(audio.format, f"audio/{audio.format}"), data)
    assert part.file is not None and part.file.file_data is not None  # What the part's own rules leave.
    name, stated = part.file.filename or "", part.file.format or ""
    return native_data(part.file.file_data, f"{where}.file.file_data", name, stated)


def native_data(text: str, where: str, filename: str = "", stated: str = "") -> JsonObject:
    """A native part with the bytes of a data URL or of base64. The type of an image or a PDF is read from its bytes; that of
    anything else from the data URL, from `stated`, or from the name's suffix. Raises BadRequest that names the field `where`."""
    data = _decoded(text, where)
    found = identify(data).mime_type
    if found.startswith("image/") and found != "image/svg+xml":
        return inline_part(checked(data, where, MAX_MEDIA_BYTES))
    if found == "application/pdf":
        return _inline(found, data)
    declared = _declared_type(text) or stated.strip().lower()
    if declared.startswith("image/") and declared != "image/svg+xml":
        return inline_part(checked(data, where, MAX_MEDIA_BYTES))
    suffix = filename.rpartition(".")[2].lower()
    known = declared if declared not in ("", UNKNOWN) else _BY_SUFFIX.get(suffix, found)
    if known == UNKNOWN or not _TYPE.fullmatch(known):
        raise BadRequest(
            f"{where} has no known type; send a data URL with one, like data:application/pdf;base64,<data>, or a filename.",
            field=where,
        )
    return _inline(media_type(known), data)


def media_type(declared: str) -> str:
    """The type under which Gemini takes a file of the type `declared`: one of its text types for every text."""
    if declared in _TEXTS or not (declared == "image/svg+xml" or _OTHER_TEXTS.fullmatch(declared)):
        return declared
    return "text/plain"


def refer(part: Part, where: str) -> Iterator[tuple[Literal["file", "url"], str, str]]:
    """What the part names and does not contain, and the field that names it."""
    if (stored := part.stored_file) is not None:
        yield "file", stored, file_field(part, where)
    elif (address := part.address) is not None:
        yield "url", address, f"{where}.image_url" + ("" if isinstance(part.image_url, str) else ".url")


def _video(url: str, where: str) -> JsonObject:
    if _is_data_url(url):
        return native_data(url, where)
    if _YOUTUBE.match(url):
        return {"fileData": {"fileUri": url}}
    raise BadRequest(
        f"{where} must be a data URL or a video's address on YouTube; no other video is fetched.", field=where
    )


def _url_of(value: str | ImageUrl | VideoUrl | None) -> str:
    return value if isinstance(value, str) else value.url if value is not None else ""


def _is_data_url(text: str) -> bool:
    return text[: len(_DATA_URL)].lower() == _DATA_URL


def _declared_type(text: str) -> str:
    """The type in a data URL, without its parameters; "" if there is none."""
    if not _is_data_url(text):
        return ""
    head = text[len(_DATA_URL) : 300].partition(",")[0]
    return head.partition(";")[0].strip().lower()


def _decoded(text: str, where: str) -> bytes:
    # Base64 has 4/3 of the bytes; line breaks need less than the rest.
    if len(text) <= 2 * MAX_MEDIA_BYTES:
        try:
            data = decode(text)
        except ValueError as rule:
            raise BadRequest(f"{where} {rule}.", field=where) from None
        if not data:
            raise BadRequest(f"{where} is empty; send the file in base64.", field=where)
        if len(data) <= MAX_MEDIA_BYTES:
            return data
    raise BadRequest(f"{where} is larger than {MAX_MEDIA_BYTES // 2**20} MB, the maximum for one file.", field=where)


def _inline(mime_type: str, data: bytes) -> JsonObject:
    return {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(data).decode()}}
