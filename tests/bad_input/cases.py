"""Rejected requests, by endpoint and field: the cases of functions/BAD_INPUT.md.

A case has a request, and the status and code that it must get. The document is written from the gateway's own responses.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel

from functions.console.specification import models_of
from shared.http.bodies import NOT_BLANK
from shared.http.manifest import load_all
from shared.openapi.operation import operations
from tests.support.edge import ADMIN, ADMIN_KEY
from tests.support.processes import ROOT

MISSING: Any = object()
"""Value of a field that is left out."""
JSON = "application/json"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
BOMB = base64.b64encode(base64.b64decode(PIXEL)[:16] + b"\0\0\x75\x30" * 2 + base64.b64decode(PIXEL)[24:]).decode()
"""PIXEL with another size in its header."""
GIF = "R0lGODlhAQABAAAAACwAAAAAAQABAAA="
PAGE = base64.b64encode(b"<!doctype html><html><body>Please sign in</body></html>").decode()
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

GIF_URL = f"data:image/gif;base64,{GIF}"
SOUND = {"data": "hello!", "format": "wav"}


def _chat(part: Any) -> list[Any]:
    return [{"role": "user", "content": [part]}]


def _called(arguments: str) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "tool_calls": [call]}


@dataclass(frozen=True)
class Case:
    """A request that is rejected. `sent` describes in a few words what is wrong with `name`, a field or a header."""

    path: str
    name: str
    sent: str
    status: int
    code: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: ADMIN)
    method: str = "POST"
    names_field: bool = True
    """Whether `details.field` is `name`."""

    def __str__(self) -> str:
        return f"{self.path} {self.name}: {self.sent}"


OPERATIONS = {
    key.removeprefix("POST "): operation
    for manifest in load_all(ROOT / "functions")
    for key, operation in operations(manifest, models_of(manifest.name)).items()
    if operation.request is not None
}
MODELS = {path: operation.request for path, operation in OPERATIONS.items() if operation.request is not None}
"""Path of every endpoint with a body -> the body's model."""
IMAGE_PATHS = ("/generate", "/v1/images/generations", "/v1/images/edits")
BOUNDARY = "a-boundary-of-the-tests"
FORM = {**ADMIN, "content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def example(model: type[BaseModel]) -> dict[str, Any]:
    """A body that is accepted: the model's first example, or the examples of its required fields."""
    extra = model.model_config.get("json_schema_extra")
    if isinstance(extra, dict) and isinstance(extra.get("examples"), list):
        return dict(extra["examples"][0])  # type: ignore[arg-type]
    fields = model.model_fields.items()
    return {name: field.examples[0] for name, field in fields if field.is_required() and field.examples}


def texts(model: type[BaseModel]) -> list[str]:
    """Fields of the example that must not be blank."""
    schema = model.model_json_schema()["properties"]
    forms = {name: [schema[name], *schema[name].get("anyOf", ())] for name in example(model)}
    return [name for name, given in forms.items() if any(form.get("pattern") == NOT_BLANK for form in given)]


VALID = {path: example(model) for path, model in MODELS.items()}
VALID["/v1/images/edits"]["image"] = VALID["/v1/files"]["file"] = VALID["/upload"]["file"] = base64.b64decode(PIXEL)

FIELDS: dict[str, list[tuple[str, str, Any]]] = {
    "/chat": [
        ("system_prompt", "a number", 1),
        ("stream", "a string", "yes"),
        ("history", "an object", {}),
        ("history", "50,001 turns", [{"role": "user", "content": "Hello"}] * 50_001),
        ("history[0]", "a string", ["Hello"]),
        ("history[0].role", "an unknown role", [{"role": "system", "content": "x"}]),
        ("history[0].content", "missing", [{"role": "user"}]),
        ("history[0].content", "together with text", [{"role": "user", "content": "x", "text": "x"}]),
        ("contents", "together with prompt", [{"role": "user", "parts": [{"text": "x"}]}]),
        ("generation_config", "a list", []),
        ("generation_config.temperature", "out of its range", {"temperature": 3}),
        ("generation_config.top_k", "a fraction", {"top_k": 1.5}),
        ("generation_config.max_output_tokens", "zero", {"max_output_tokens": 0}),
        ("generation_config.stop_sequences", "six", {"stop_sequences": list("abcdef")}),
        ("generation_config.candidate_count", "two", {"candidate_count": 2}),
        ("generation_config.temprature", "unknown", {"temprature": 1}),
        ("temperature", "outside generation_config", 1),
        ("safety_settings", "an object", {}),
        ("safety_settings[0].threshold", "missing", [{"category": "HARM_CATEGORY_HARASSMENT"}]),
        ("message", "together with prompt", "Hello"),
        ("session_id", "without message", "new"),
    ],
    "/generate_text": [("system_prompt", "a list", [])],
    "/structured-output": [
        ("json_schema", "missing", MISSING),
        ("json_schema", "a string", "object"),
        ("json_schema", "a type that does not exist", {"type": "text"}),
        ("json_schema", "a keyword of a wrong type", {"type": "object", "properties": {"a": {"minLength": "1"}}}),
        ("json_schema", "a remote reference", {"$ref": "https://example.com/schema.json"}),
        ("json_schema", "a reference to nothing", {"$ref": "#/$defs/person"}),
        ("json_schema", "a reference to itself", {"$ref": "#"}),
        ("json_schema", "a pattern that is not ECMA-262", {"type": "string", "pattern": "("}),
        ("json_schema", "a type of Gemini's own dialect", {"type": "STRING"}),
        ("json_schema", "nullable that is not true or false", {"type": "string", "nullable": "yes"}),
        ("json_schema", "required as in draft 3", {"properties": {"a": {"type": "string", "required": True}}}),
        ("json_schema", "a tuple as in draft-07", {"type": "array", "items": [{"type": "string"}]}),
        ("json_schema", "another draft", {"$schema": "http://json-schema.org/draft-04/schema#"}),
        ("assert_formats", "a string", "yes"),
        ("generation_config.temperature", "out of its range", {"temperature": -1}),
        ("generation_config.responseMimeType", "set by the caller", {"responseMimeType": "text/plain"}),
    ],
    "/cinematic-story-design": [("json_schema", "given", SCHEMA)],
    "/translation": [("source_language", "blank", " ")],
    "/image-analysis": [
        ("image", "missing", MISSING),
        ("image", "empty", ""),
        ("image", "not base64", "hello!"),
        ("image", "a data URL without base64", "data:image/png,x"),
        ("image", "base64 of a part", PIXEL[:-5]),
        ("image", "an HTML page", PAGE),
        ("image", "a GIF", GIF),
        ("image", "a PNG that is cut off", PIXEL[:-4]),
        ("mime_type", "a number", 5),
        ("prompt", "blank", " "),
    ],
    "/generate": [
        ("number_of_images", "zero", 0),
        ("number_of_images", "nine", 9),
        ("number_of_images", "a word", "two"),
        ("aspect_ratio", "unknown", "7:3"),
        ("aspect_ratio", "a number", 1.5),
        ("image_size", "unknown", "8K"),
        ("response_format", "unknown", "jpeg"),
        ("system_prompt", "a number", 1),
        ("model", "a text model", "gemini-3.8-flash"),
        ("input_images", "a string", PIXEL),
        ("input_images", "fifteen", [PIXEL] * 15),
        ("input_images[0]", "a number", [1]),
        ("input_images[0]", "neither base64 nor a URL", ["hello!"]),
        ("input_images[0]", "a data URL without base64", ["data:image/png,x"]),
        ("input_images[1]", "not an image", [PIXEL, "aGVsbG8="]),
        ("input_images[0]", "an SVG", ["PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4="]),
        ("input_images[0]", "a GIF", [GIF]),
        ("input_images[0]", "an HTML page", [PAGE]),
        ("input_images[0]", "a PNG of 30000 x 30000 pixels", [BOMB]),
        ("input_images[0]", "a PNG that is cut off", [PIXEL[:-4]]),
        ("input_images[0]", "a PNG that is cut within its header", [PIXEL[:24]]),
        ("input_images[0]", "the name of a missing image", ["0" * 44 + ".png"]),
        ("input_images[0]", "an http URL", ["http://images.example/a.png"]),
        ("input_images[0]", "a file URL", ["file:///etc/passwd"]),
        ("input_images[0]", "the metadata server", ["https://169.254.169.254/computeMetadata/v1/"]),
        ("input_images[0]", "this machine", ["https://127.0.0.1/a.png"]),
        ("input_images[0]", "a URL with credentials", ["https://me:secret@images.example/a.png"]),
    ],
    "/v1/files": [
        ("file", "missing", MISSING),
        ("file", "a text", "report.pdf"),
        ("purpose", "unknown", "holiday"),
        ("expires_after", "a text", "soon"),
    ],
    "/upload": [
        ("file", "missing", MISSING),
        ("file", "a text", "report.pdf"),
        ("file", "empty", b""),
        ("file", "an executable named .png", b"\x7fELF\x02\x01\x01" + bytes(64)),
        ("file", "a GIF", base64.b64decode(GIF)),
        ("file", "a PNG that is cut off", base64.b64decode(PIXEL[:-4])),
    ],
    "/v1/chat/completions": [
        ("messages", "missing", MISSING),
        ("messages", "empty", []),
        ("messages[0].role", "unknown", [{"role": "function", "content": "x"}]),
        ("messages[0].content", "missing", [{"role": "user"}]),
        ("messages[0].content", "an object", [{"role": "user", "content": {}}]),
        ("messages[0].content[0].type", "unknown", [{"role": "user", "content": [{"type": "image"}]}]),
        ("messages[0].content[0].text", "missing", [{"role": "user", "content": [{"type": "text"}]}]),
        ("messages[0].content[0].image_url.url", "a GIF", _chat({"type": "image_url", "image_url": {"url": GIF_URL}})),
        (
            "messages[0].content[0].image_url.url",
            "http",
            _chat({"type": "image_url", "image_url": {"url": "http://x/y"}}),
        ),
        ("messages[0].content[0].input_audio.data", "not base64", _chat({"type": "input_audio", "input_audio": SOUND})),
        ("messages[0].content[0].file.file_id", "missing", _chat({"type": "file", "file": {}})),
        ("messages[0].content[0].file.file_data", "of no type", _chat({"type": "file", "file": {"file_data": "AAEC"}})),
        ("messages[0].role", "tool, without a call", [{"role": "tool", "tool_call_id": "call_1", "content": "x"}]),
        ("messages[0].tool_calls[0].id", "without a result", [_called("{}")]),
        ("messages[0].tool_calls[0].function.arguments", "not an object", [_called("[]")]),
        ("messages[0].function_call", "given", [{"role": "assistant", "function_call": {"name": "f"}}]),
        ("prompts", "empty", []),
        ("tools[0].type", "another kind", [{"type": "custom", "custom": {"name": "x"}}]),
        ("tools[0].function.name", "two words", [{"type": "function", "function": {"name": "two words"}}]),
        ("tool_choice", "without tools", "required"),
        ("response_format.json_schema", "missing", {"type": "json_schema"}),
        ("n", "nine", 9),
        ("temperature", "out of its range", 3),
        ("max_tokens", "zero", 0),
        ("stop", "six", list("abcdef")),
        ("reasoning_effort", "unknown", "huge"),
        ("google.safety_settings", "unknown", {"safety_settings": []}),
        ("modalities", "audio", ["text", "audio"]),
        ("service_tier", "flex", "flex"),
        ("store", "true", True),
        ("logprobs", "true", True),
        ("top_logprobs", "two", 2),
        ("logit_bias", "given", {"50256": -100}),
        ("audio", "given", {"voice": "alloy", "format": "mp3"}),
        ("moderation", "given", {"model": "omni-moderation-latest"}),
        ("functions", "given", []),
        ("function_call", "given", "auto"),
    ],
    "/v1/embeddings": [
        ("input", "missing", MISSING),
        ("input", "an empty list", []),
        ("input[1]", "an empty text", ["Hello", ""]),
        ("input", "a list of tokens", [9906, 11]),
        ("dimensions", "zero", 0),
        ("encoding_format", "unknown", "hex"),
        ("model", "a text model", "gemini-3.8-flash"),
    ],
    "/v1/images/generations": [
        ("n", "nine", 9),
        ("n", "a word", "two"),
        ("size", "a word", "large"),
        ("size", "a strip", "4096x512"),
        ("response_format", "unknown", "png"),
        ("quality", "unknown", "best"),
        ("output_format", "another one", "webp"),
        ("output_compression", "50", 50),
        ("background", "transparent", "transparent"),
        ("style", "given", "vivid"),
        ("stream", "true", True),
        ("partial_images", "two", 2),
        ("complexity", "given", "low"),
        ("frame_count", "given", 4),
        ("svg", "given", {}),
    ],
    "/v1/images/edits": [
        ("image", "missing", MISSING),
        ("image", "a text", "image.png"),
        ("image[0]", "a page", b"<!doctype html><html><body>Please sign in</body></html>"),
        ("image[0]", "a GIF", base64.b64decode(GIF)),
        ("image[0]", "a PNG that is cut off", base64.b64decode(PIXEL[:-4])),
        ("mask", "given", base64.b64decode(PIXEL)),
        ("n", "a word", "two"),
        ("size", "a strip", "4096x512"),
    ],
}
"""Path -> (field, what is wrong, value of the top-level field). Cases of texts, model and credentials are derived."""


UNTAKEN = {("/upload", sent): (415, "unsupported_media_type") for sent in ("an executable named .png", "a GIF")}
"""(path, what is wrong) -> the status and code, where it is the content that is not taken."""


def cases() -> Iterator[Case]:
    yield from _common_cases()
    for path in VALID:
        yield from _field_cases(path)


def _body(path: str, **changes: Any) -> bytes:
    fields = {name: value for name, value in {**VALID[path], **changes}.items() if value is not MISSING}
    return form(fields) if OPERATIONS[path].form else orjson.dumps(fields)


def form(fields: Mapping[str, Any]) -> bytes:
    """The fields as a form; bytes are files."""
    parts = []
    for name, value in fields.items():
        file = '; filename="image.png"' if isinstance(value, bytes) else ""
        content = value if isinstance(value, bytes) else str(value).encode()
        parts.append(f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content)
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def headers_for(path: str) -> Mapping[str, str]:
    return FORM if OPERATIONS[path].form else ADMIN


def _field_cases(path: str) -> Iterator[Case]:
    def case(name: str, sent: str, **changes: Any) -> Case:
        status, code = UNTAKEN.get((path, sent), (400, "invalid_request"))
        return Case(path, name, sent, status, code, _body(path, **changes), headers_for(path))

    is_form = OPERATIONS[path].form
    for name in texts(MODELS[path]):
        for sent, value in (("missing", MISSING), ("empty", ""), ("white space", " \n"), ("a number", 1)):
            # A form has nothing but texts.
            if not (is_form and value == 1):
                yield case(name, sent, **{name: value})
    for name, sent, value in FIELDS.get(path, ()):
        yield case(name, sent, **{name.partition(".")[0].partition("[")[0]: value})
    yield case("promt", "unknown", promt="Hello")
    if "model" not in MODELS[path].model_fields:
        return
    if not is_form:
        yield case("model", "a number", model=1)
    yield case("model", "not a model id", model="Gemini Pro")
    if path not in (*IMAGE_PATHS, "/v1/chat/completions"):
        yield case("model", "an image model", model="gemini-3-pro-image")
    if is_form:
        return
    yield case("credentials", "a string", credentials="key")
    field_of_key = "credentials.gemini_api_key"
    yield case(field_of_key, "a number", credentials={"gemini_api_key": 1})
    short = _body(path, credentials={"gemini_api_key": "short"})
    yield Case(path, field_of_key, "not in the form of a key", 400, "invalid_request", short, {})


def _common_cases() -> Iterator[Case]:
    """Requests that every endpoint with a body rejects alike, sent to /chat."""
    path, valid = "/chat", _body("/chat")

    def case(name: str, sent: str, status: int, code: str, body: bytes = valid, **headers: str) -> Case:
        given = {**ADMIN, **{key.replace("_", "-"): value for key, value in headers.items()}}
        return Case(path, name, sent, status, code, body, given, names_field=name.startswith("x-"))

    yield case("the body", "empty", 400, "invalid_request", b"")
    yield case("the body", "not JSON", 400, "invalid_request", b"prompt=Hello")
    yield case("the body", "cut short", 400, "invalid_request", b'{"prompt": "Hello"')
    yield case("the body", "not UTF-8", 400, "invalid_request", b'{"prompt": "\xe9"}')
    yield case("the body", "a list", 400, "invalid_request", b'["Hello"]')
    yield case("content-type", "a form", 415, "unsupported_media_type", content_type="multipart/form-data")
    yield case(
        "content-type", "another charset", 415, "unsupported_media_type", content_type=f"{JSON}; charset=latin-1"
    )
    yield case("content-encoding", "compressed", 415, "unsupported_media_type", content_encoding="gzip")
    yield case("x-request-timeout", "not a number", 400, "invalid_request", x_request_timeout="soon")
    yield case("x-request-timeout", "over the server's", 400, "invalid_request", x_request_timeout="100000")
    yield case("x-priority", "unknown", 400, "invalid_request", x_priority="urgent")
    yield case("x-caller-id", "not ASCII", 400, "invalid_request", x_caller_id="Zoë")
    yield Case(path, "a credential", "none", 401, "unauthorized", valid, {}, names_field=False)
    wrong = {"admin-api-key": ADMIN_KEY + "x"}
    yield Case(path, "Admin-API-Key", "wrong", 401, "unauthorized", valid, wrong, names_field=False)
    yield Case(path, "the method", "GET", 405, "method_not_allowed", b"", method="GET", names_field=False)
    yield Case("/chats", "the path", "unknown", 404, "not_found", valid, names_field=False)
    tokens = orjson.dumps({"prompt": "word " * 2_000_000})
    yield Case(
        path, "prompt", "more tokens than the limit per minute", 400, "cost_exceeds_limit", tokens, names_field=False
    )
    native = b'{"contents": [{"parts": [{"text": "x"}, {"functionResponse": %b}]}]}'
    deep = native % (b'{"a":' * 300 + b"1" + b"}" * 300)
    yield Case(path, "contents", "nested 300 deep", 400, "invalid_request", deep, names_field=False)
