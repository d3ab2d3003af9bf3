"""Items as callers write them, in Python or JSON. Pure.

prompt                                    the text; <audio>, <video>, <image> and <pdf> in it are places for files
metadata                                  any value, returned with the result
id                                        a text or a whole number
audio_path, audio_bytes, audio_url        files, each one or a list; in this order. The same for video, image, pdf
audio_mime_type                           of these files, in their order; missing ones have the default
video_metadata                            start_offset, end_offset, fps of the videos, in their order
generation_config, system_prompt          settings of the generation
response_schema                           the JSON Schema that the answer has to conform to
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from shared.batch.generation_settings import SETTINGS, read_settings, to_camel
from shared.batch.item import Item, MediaKind, Medium, Origin, Task
from shared.batch.placement import place
from shared.errors import BadRequest
from shared.generation import JsonObject
from shared.media.base64_text import decode

DEFAULT_TYPES: Mapping[MediaKind, str] = {
    "audio": "audio/mp3",
    "video": "video/mp4",
    "image": "",
    "pdf": "application/pdf",
}
"""An empty type is found in the content."""
MAX_FILES = 100
MAX_FIELDS = 100
"""More than any item needs: each unknown name is compared with the known ones."""
MAX_ID_CHARS = 256
_ORIGINS: tuple[Origin, ...] = ("path", "bytes", "url")
MAX_OFFSET_S = 10_000_000
_SECONDS = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,9})?)s?")
_DATA_TYPE = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)[;,]", re.IGNORECASE)
_VIDEO_METADATA = {
    "start_offset": "startOffset",
    "startOffset": "startOffset",
    "end_offset": "endOffset",
    "endOffset": "endOffset",
    "fps": "fps",
}
FIELDS = frozenset({
    "prompt", "metadata", "id", "generation_config", "generationConfig", "system_prompt", "response_schema", "video_metadata",
    *(f"{kind}_{what}" for kind in DEFAULT_TYPES for what in (*_ORIGINS, "mime_type")),
})  # fmt: skip


_CAPITAL = re.compile("[A-Z]")
_OTHER_NAMES = {
    **{f"{kind}{end}": f"{kind}_path" for kind in DEFAULT_TYPES for end in ("", "s", "_file", "_files", "_data")},
    "system_instruction": "system_prompt",
    "schema": "response_schema",
    "json_schema": "response_schema",
    "config": "generation_config",
    "text": "prompt",
    "prompts": "prompt",
}
"""Names that callers may use for fields."""


def read_task(data: Any, index: int, *, paths: bool, problem: BadRequest | None = None) -> Task:
    """Bad data make a task with a problem. `paths`: whether items may name files of this machine. `problem`: what was wrong
    before the data could be read."""
    if problem is not None or not isinstance(data, Mapping):
        wrong = problem or BadRequest("An item must be an object with a prompt.", field="prompt")
        return Task(index, None, problem=wrong)
    metadata = data.get("metadata")
    try:
        task_id = _id_of(data)
    except BadRequest as error:
        return Task(index, None, {} if metadata is None else metadata, problem=error)
    try:
        item, found = read_item(data, paths=paths), None
    except BadRequest as error:
        item, found = None, error
    return Task(index, item, {} if metadata is None else metadata, task_id, found, data)


def read_item(data: Mapping[str, Any], *, paths: bool) -> Item:
    """Raises BadRequest that names the field."""
    if len(data) > MAX_FIELDS:
        raise BadRequest(f"An item may have at most {MAX_FIELDS} fields, and this one has {len(data)}.")
    ignored = _unknown(data)
    prompt = data.get("prompt")
    if not isinstance(prompt, str):
        raise _wrong("prompt", "must be a text" if "prompt" in data else "is missing")
    media: dict[str, list[Medium]] = {
        kind: found for kind in DEFAULT_TYPES if (found := _media(data, kind, paths=paths))
    }
    if sum(map(len, media.values())) > MAX_FILES:
        raise _wrong("prompt", f"has more than {MAX_FILES} files; send several items")
    placed = place(prompt, media)
    if not placed.parts:
        raise _wrong("prompt", "is empty, and the item has no file")
    settings = read_settings(_one_of(data, "generation_config", "generationConfig"))
    system, schema = data.get("system_prompt"), data.get("response_schema")
    if system is not None and not isinstance(system, str):
        raise _wrong("system_prompt", "must be a text")
    if isinstance(schema, type) and hasattr(schema, "model_json_schema"):
        schema = schema.model_json_schema()
    if schema is not None and not isinstance(schema, Mapping):
        raise _wrong("response_schema", "must be a JSON Schema, an object")
    if system is not None and settings.system_prompt is not None:
        raise _wrong("system_prompt", "and generation_config.system_instruction are both there; send one")
    if schema is not None and {"responseSchema", "responseJsonSchema"} & (settings.config or {}).keys():
        raise _wrong("response_schema", "and a schema in generation_config are both there; send one")
    parts = tuple(part for part in placed.parts if isinstance(part, str | Medium))
    return Item(
        parts,
        settings.config,
        None if schema is None else dict(schema),
        settings.system_prompt if system is None else system,
        settings.body,
        (*ignored, *placed.warnings),
    )


def _media(data: Mapping[str, Any], kind: MediaKind, *, paths: bool) -> list[Medium]:
    """The files of a kind: paths, then bytes, then URLs. Types and metadata belong to this list."""
    sources = [
        (origin, source, where)
        for origin in _ORIGINS
        for source, where in _listed(data, f"{kind}_{origin}")
        if source is not None
    ]
    types = _listed(data, f"{kind}_mime_type")
    about = _listed(data, "video_metadata") if kind == "video" else []
    for name, given in ((f"{kind}_mime_type", types), ("video_metadata", about)):
        if len(given) > len(sources):
            raise _wrong(name, f"has {len(given)} entries, but the item has {len(sources)} {kind} files")
    found = []
    for at, (origin, source, where) in enumerate(sources):
        mime_type, type_where = types[at] if at < len(types) else (None, "")
        if mime_type is not None and (not isinstance(mime_type, str) or "/" not in mime_type):
            raise _wrong(type_where, "must be a type like audio/wav")
        metadata = _video_metadata(*about[at]) if at < len(about) else None
        found.append(
            Medium(
                kind,
                origin,
                _source(origin, source, where, paths),
                mime_type or _type_of(kind, source),
                where,
                metadata,
            )
        )
    return found


def _type_of(kind: MediaKind, source: Any) -> str:
    """The type that a data URL names, else the default."""
    found = _DATA_TYPE.match(source) if isinstance(source, str) else None
    return found[1].lower() if found is not None and kind != "image" else DEFAULT_TYPES[kind]


def _source(origin: Origin, source: Any, where: str, paths: bool) -> str | bytes:
    if origin == "bytes":
        if isinstance(source, bytes | bytearray | memoryview):
            data = bytes(source)
        elif isinstance(source, str):
            try:
                data = decode(source)
            except ValueError as error:
                raise _wrong(where, str(error)) from None
        else:
            raise _wrong(where, "must be bytes, or a base64 text")
        if not data:
            raise _wrong(where, "is empty")
        return data
    if origin == "path":
        if not paths:
            raise _wrong(where, "names a file of your machine; send its bytes in base64, or a URL")
        source = source.__fspath__() if hasattr(source, "__fspath__") else source
    if not isinstance(source, str) or not source.strip():
        raise _wrong(where, f"must be a {'path' if origin == 'path' else 'URL'}")
    return source if origin == "path" else source.strip()


def _video_metadata(given: Any, where: str) -> JsonObject | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise _wrong(where, "must be an object with start_offset, end_offset or fps")
    found: JsonObject = {}
    for name, value in given.items():
        native = _VIDEO_METADATA.get(name)
        if native is None:
            raise _wrong(f"{where}.{name}", "is not known; use start_offset, end_offset or fps")
        if native in found:
            raise _wrong(f"{where}.{name}", "is there twice, in two spellings")
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if native == "fps":
            if not number or not 0 < value <= 24:
                raise _wrong(f"{where}.{name}", "must be a number over 0, at most 24")
            found[native] = value
        else:
            text = f"{value:.9f}" if number and value < MAX_OFFSET_S else str(value).strip()
            matched = _SECONDS.fullmatch(text) if isinstance(value, str) or number else None
            if matched is None:
                raise _wrong(f"{where}.{name}", f"must be seconds, like 10 or '10s', below {MAX_OFFSET_S}")
            found[native] = (matched[1].rstrip("0").rstrip(".") if "." in matched[1] else matched[1]) + "s"
    return found or None


def _listed(data: Mapping[str, Any], name: str) -> list[tuple[Any, str]]:
    """The values of a field, one or a list, each with its name for errors."""
    value = data.get(name)
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [(one, f"{name}[{at}]") for at, one in enumerate(value)]
    return [(value, name)]


def _one_of(data: Mapping[str, Any], name: str, other: str) -> Any:
    if data.get(name) is not None and data.get(other) is not None:
        raise _wrong(name, f"and {other} are both there; send one")
    return data.get(other) if data.get(name) is None else data[name]


def _id_of(data: Mapping[str, Any]) -> str | None:
    value = data.get("id")
    if value is None:
        return None
    is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    if not is_number and not (isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS):
        raise _wrong("id", f"must be a text or a whole number, at most {MAX_ID_CHARS} characters")
    return str(value)


def _unknown(data: Mapping[str, Any]) -> list[str]:
    """Warnings of fields that are ignored. A name that is almost a field's is a mistake that would cost a wrong answer."""
    ignored = []
    for name in data.keys() - FIELDS:
        shown = str(name)[:60]
        meant = _meant(shown)
        if meant is not None:
            raise _wrong(shown, f"is not a field of an item; did you mean {meant}?")
        ignored.append(f"The field {shown} is not known, and was ignored.")
    return sorted(ignored)


def _meant(name: str) -> str | None:
    """The field that a name most likely stands for."""
    snake = _CAPITAL.sub(lambda capital: f"_{capital[0].lower()}", name)
    if snake in FIELDS:
        return snake
    if snake in _OTHER_NAMES:
        return _OTHER_NAMES[snake]
    if to_camel(snake) in SETTINGS:
        return f"generation_config.{snake}"
    return next(iter(difflib.get_close_matches(name, FIELDS, 1, cutoff=0.85)), None)


def _wrong(where: str, what: str) -> BadRequest:
    return BadRequest(f"{where} {what}.", field=where)
