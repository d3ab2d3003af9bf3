"""What a native request body names that one Google project stores (files, caches, file search stores), and its thought
signatures. Pure.

Gemini answers 403 for a stored thing of another project, and 400 for a thought signature of another backend. Both spellings of
a field are read. A function's arguments and response are the caller's own data, which Gemini does not follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from shared.errors import BadRequest
from shared.gemini import wire
from shared.generation import FileSource, FileUri, JsonObject

MAX_NAMES = 500
PLACEHOLDER = "skip_thought_signature_validator"
"""Gemini accepts it in place of a signature that the caller does not have (ai.google.dev/gemini-api/docs/thought-signatures)."""

_FILE = re.compile(
    r"(?:\A/?|/v[0-9][a-z0-9]*/|googleapis\.com/(?:[^?#]*/)?)files/([^/?#:\s]+)",
    re.IGNORECASE,
)
"""`files/x`, or a URL of the Files API at any host: Google has several, and a proxy has its own."""
_OTHERS = re.compile(r"/?((?:cachedContents|fileSearchStores)/[^/?#:\s]+)")
_MISSING = re.compile(
    r"you do not have permission to access the (?:file|cachedcontent|filesearchstore)\b.* or it may not exist"
    r"|(?:cachedcontent|file|filesearchstore) not found \(or permission denied\)",
    re.IGNORECASE,
)


class Named(NamedTuple):
    """What a body names, each once: things that Google stores, like `files/x`, and files that callers stored here."""

    things: tuple[str, ...]
    files: tuple[FileSource, ...]

    def bounded_things(self) -> tuple[str, ...]:
        """Raises BadRequest for more than MAX_NAMES."""
        if len(self.things) > MAX_NAMES:
            raise BadRequest(
                f"The request names {len(self.things)} stored files; name at most {MAX_NAMES}.", field="contents"
            )
        return self.things


def named(body: Mapping[str, Any]) -> Named:
    found: dict[str, None] = {}
    files: dict[str, FileSource] = {}
    if "cachedContent" in body or "cached_content" in body:
        found.update((_plain(text), None) for text in _texts(body, "cachedContent", "cached_content"))
    tools = body.get("tools")
    if tools is not None:
        found.update(dict.fromkeys(_stores(tools)))
    for contents in (body.get("contents"), body.get("systemInstruction"), body.get("system_instruction")):
        for part in _parts_of(contents):
            for file in _objects(part, "fileData", "file_data"):
                if isinstance(uri := file.get("fileUri"), FileUri):
                    files[uri.source.key] = uri.source
                found.update((name, None) for uri in _texts(file, "fileUri", "file_uri") if (name := file_name(uri)))
    return Named(tuple(found), tuple(files.values()))


def signatures(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The thought signatures of a request in the order of the conversation, each once, at its last place."""
    found: dict[str, None] = {}
    for part in _parts_of(body.get("contents")):
        for signature in _texts(part, "thoughtSignature", "thought_signature"):
            if signature != PLACEHOLDER:
                found.pop(signature, None)
                found[signature] = None
    return tuple(found)


def replaced(body: Mapping[str, Any], foreign: frozenset[str], uris: Mapping[str, str]) -> JsonObject:
    """A copy of a request whose signatures in `foreign` are the placeholder, and whose stored files have their `uris`, by the
    file's key. What does not change is shared."""
    return {name: _replaced(value, foreign, uris) if name == "contents" else value for name, value in body.items()}


def signatures_of_answer(body: Mapping[str, Any]) -> Iterator[str]:
    """The thought signatures in an answer, or in one frame of a stream."""
    for candidate in wire.candidates(body):
        for part in _parts_of(candidate.get("content")):
            yield from _texts(part, "thoughtSignature", "thought_signature")


def says_missing(message: str) -> bool:
    """Whether Gemini's message says that a stored thing does not exist, or belongs to another project."""
    return _MISSING.search(message) is not None


def file_name(uri: str) -> str | None:
    """`files/x` for the URI of a stored file in any form; None for another address, like a video on YouTube."""
    match = _FILE.search(unquote(uri.strip()))
    return f"files/{match[1]}" if match else None


def _stores(tools: Any) -> Iterator[str]:
    for tool in _listed(tools):
        for search in _objects(tool, "fileSearch", "file_search") if type(tool) is dict else ():
            for field in ("fileSearchStoreNames", "file_search_store_names"):
                for store in _listed(search.get(field)):
                    if type(store) is str and store.strip():
                        yield _plain(store)


def _plain(name: str) -> str:
    match = _OTHERS.match(unquote(name.strip()))
    return match[1] if match else name.strip()


def _parts_of(contents: Any) -> list[dict[str, Any]]:
    """Every part that is more than a text or inline data alone, and the parts of function responses. A list of one entry may be
    written without its brackets.

    Measured: 0.1 us for a part. Searching the body's bytes for the names of the fields takes as long as encoding it."""
    found: list[dict[str, Any]] = []
    if contents is None:
        return found
    for content in contents if type(contents) is list else (contents,):
        parts = content.get("parts") if type(content) is dict else None
        for part in parts if type(parts) is list else _listed(parts):
            if type(part) is not dict or (len(part) == 1 and ("text" in part or "inlineData" in part)):
                continue
            found.append(part)
            for response in _objects(part, "functionResponse", "function_response"):
                found += (inner for inner in _listed(response.get("parts")) if type(inner) is dict)
    return found


def _replaced(contents: Any, foreign: frozenset[str], uris: Mapping[str, str]) -> Any:
    if type(contents) is list:
        return [_replaced(content, foreign, uris) for content in contents]
    if type(contents) is not dict:
        return contents
    if "parts" in contents:
        return {**contents, "parts": _replaced(contents["parts"], foreign, uris)}
    changes: JsonObject = {
        field: PLACEHOLDER
        for field in ("thoughtSignature", "thought_signature")
        if type(contents.get(field)) is str and contents[field] in foreign
    }
    file = contents.get("fileData")
    if type(file) is dict and isinstance(uri := file.get("fileUri"), FileUri):
        changes["fileData"] = {**file, "fileUri": uris[uri.source.key]}
    return {**contents, **changes} if changes else contents


def _listed(value: Any) -> list[Any]:
    if type(value) is list:
        return value
    return [] if value is None else [value]


def _objects(parent: Mapping[str, Any], *fields: str) -> Iterator[dict[str, Any]]:
    return (parent[field] for field in fields if type(parent.get(field)) is dict)


def _texts(parent: Mapping[str, Any], *fields: str) -> Iterator[str]:
    return (text for field in fields if type(text := parent.get(field)) is str and text.strip())
