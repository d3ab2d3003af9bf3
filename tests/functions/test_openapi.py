"""GET /openapi.json is the whole truth: every path is in it, what it shows works, and what comes back is as it says."""

from __future__ import annotations

import base64
import importlib
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import aiohttp
import jsonschema
import openapi_spec_validator
import orjson
import pytest

from functions.console.main import console
from functions.console.specification import models_of
from shared.errors import CallerGone, GatewayError, MethodNotAllowed, StaleConfiguration
from shared.http.manifest import Manifest, load_all
from shared.http.routes import as_template
from shared.openapi.failures import traits_of, tree
from shared.openapi.operation import Operation
from shared.openapi.operation import operations as declared
from tests.bad_input.cases import PIXEL
from tests.support.edge import ADMIN, Answer, FakeGateway, FakeServices, ask
from tests.support.functions import called
from tests.support.processes import ROOT, request, served
from tests.support.turns import event_of

JsonObject = dict[str, Any]
MANIFESTS = load_all(ROOT / "functions")
OPERATIONS = {
    (manifest.name, key): operation
    for manifest in MANIFESTS
    for key, operation in declared(manifest, models_of(manifest.name)).items()
}
"""By function and "POST /path"."""
GENERATING = [names for names, one in OPERATIONS.items() if one.generates and one.request is not None and not one.form]
SINGLE = [names for names in GENERATING if not OPERATIONS[names].lines]
"""An error of one item of a batch is in its line."""
NEVER_TOLD_OF = {CallerGone, MethodNotAllowed, StaleConfiguration}
"""Never sent; for methods that are not in the specification; for changes of the configuration, which have no operation yet."""
OWN_HEADERS = ("x-request-id", "x-ratelimit-", "x-model-", "retry-after", "server-timing", "openai-")
OPENAI = "/v1/"
FORM = "multipart/form-data"
PNG = base64.b64decode(PIXEL)


async def specification() -> JsonObject:
    with patch("shared.bootstrap.services", FakeServices):
        return (await ask(console, "GET", "/openapi.json")).json()


def operations(document: JsonObject) -> Iterator[tuple[str, str, JsonObject]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def is_reserved(operation: JsonObject) -> bool:
    """Whether the operation only answers with errors."""
    return not any(status.startswith("2") for status in operation["responses"])


def content_of(operation: JsonObject) -> tuple[str, JsonObject]:
    """The media type of the request and its description; ("", {}) if there is none."""
    return next(iter(operation.get("requestBody", {"content": {"": {}}})["content"].items()))


def bodies_of(operation: JsonObject) -> list[JsonObject]:
    """The requests that the operation shows, as arguments for aiohttp; one without a body if it takes none."""
    media_type, content = content_of(operation)
    examples = [example["value"] for example in content.get("examples", {}).values()]
    return [{"data": form(one)} if media_type == FORM else {"json": one} for one in examples] or [{}]


def form(fields: JsonObject) -> aiohttp.FormData:
    """A form with these fields and one image, which no example can show."""
    data = aiohttp.FormData()
    for name, value in fields.items():
        data.add_field(name, str(value))
    name = "file" if "purpose" in fields or "session_id" in fields else "image"
    data.add_field(name, PNG, filename="image.png", content_type="image/png")
    return data


def validate(value: Any, schema: JsonObject, document: JsonObject) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def check(document: JsonObject, operation: JsonObject, status: int, headers: Any, body: Any) -> None:
    """That the answer is one of those that the operation has."""
    assert str(status) in operation["responses"], f"{status} is not in the specification: {body}"
    described = operation["responses"][str(status)]
    sent = {name.lower() for name in headers}
    own = {name for name in sent if name.startswith(OWN_HEADERS)}
    assert own <= described["headers"].keys()
    for name in described["headers"]:
        assert name in sent or not document["components"]["headers"][name]["required"]
    if "content" not in described:
        assert not body
        return
    media_type = headers["content-type"].partition(";")[0]
    content = described["content"].get(media_type, described["content"].get("*/*"))
    assert content is not None, f"{media_type} is not in the specification"
    schema = content.get("schema")
    if schema is None:
        assert body, "bytes of which there is nothing to say"
    elif media_type == "application/x-ndjson":
        for line in body.splitlines():
            validate(orjson.loads(line), schema, document)
    elif media_type == "text/event-stream":
        check_events(document, schema, body)
    else:
        validate(body, schema, document)


def check_events(document: JsonObject, schema: JsonObject, body: str) -> None:
    if "id" in schema["properties"]:
        check_events_of_turn(document, schema, body)
        return
    chunks = body.removesuffix("data: [DONE]\n\n")
    events = Answer(chunks=[chunks.encode()]).events()
    assert chunks != body or events[-1][1]["done"] is True
    described = schema["properties"]["data"]
    content = described.get("anyOf", [described])[0]["contentSchema"]
    for name, data in events:
        validate({"event": name, "data": orjson.dumps(data).decode()}, schema, document)
        validate(data, content, document)


def check_events_of_turn(document: JsonObject, schema: JsonObject, body: str) -> None:
    events = [event_of(block) for block in body.split("\n\n")[:-1]]
    for event in events:
        validate({"id": event.id, "event": event.name, "data": ""}, schema, document)
    *texts, usage, done = events
    assert {event.name for event in texts} == {"message"}
    for event, name in ((usage, "SessionsStreamUsage"), (done, "SessionsStreamDone")):
        validate(event.data, document["components"]["schemas"][name], document)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, JsonObject]]:
    """The local server's address, and what it says of itself."""
    with tempfile.TemporaryDirectory() as folder:
        async with served({"STORAGE_URL": f"file://{folder}"}) as server:
            _, _, document = await request("GET", f"{server.url}/openapi.json")
            yield server.url, document


async def test_the_document_is_valid() -> None:
    openapi_spec_validator.validate(await specification())


async def test_document_has_exactly_the_functions_operations() -> None:
    document = await specification()
    expected = {
        (method, as_template(pattern))
        for manifest in MANIFESTS
        for pattern, methods in manifest.paths.items()
        for method in methods
    }
    assert {(method, path) for method, path, _ in operations(document)} == expected
    ids = [operation["operationId"] for *_, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert {manifest.name for manifest in MANIFESTS if len(manifest.paths) == 1} <= set(ids)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest.name)
def test_every_function_describes_what_it_takes_and_answers(manifest: Manifest) -> None:
    models = models_of(manifest.name)
    assert "Answer" in models or "OPERATIONS" in models
    for (name, key), operation in OPERATIONS.items():
        if name == manifest.name and key.startswith("POST"):
            # A request about something that exists may have no body.
            assert operation.request is not None or operation.status == 404 or "{" in key, key


def test_missing_import_in_models_is_raised() -> None:
    """It is not mistaken for a function without models."""
    missing = patch.object(importlib, "import_module", side_effect=ModuleNotFoundError(name="pydantic"))
    with missing, pytest.raises(ModuleNotFoundError):
        models_of("chat")


async def test_examples_work_and_answers_match_spec() -> None:
    shown = 0
    async with serving() as (url, document):
        for method, path, operation in operations(document):
            for address in [] if is_reserved(operation) else await addresses(url, path, operation):
                for body in bodies_of(operation):
                    status, headers, answer = await send(method, url + address, headers=ADMIN, **body)
                    assert status in (200, 204), f"{method} {address} {body}: {answer}"
                    check(document, operation, status, headers, answer)
                    shown += bool(body)
        assert shown >= len(GENERATING)


async def send(method: str, url: str, **rest: Any) -> tuple[int, Any, Any]:
    """As `request`, with bytes for what is not text."""
    async with aiohttp.ClientSession() as session, session.request(method, url, **rest) as response:
        if response.content_type == "application/json":
            return response.status, response.headers, await response.json()
        is_text = response.content_type.startswith("text/")
        return response.status, response.headers, await (response.text() if is_text else response.read())


async def addresses(url: str, path: str, operation: JsonObject) -> list[str]:
    """What the specification names in place of {path}; the name of an image where it names nothing."""
    if path == "/stream":
        await message(url)
    if path == "/batch/{id}":
        return [path.format(id=await batch_id(url))]
    schemas = [p["schema"] for p in operation["parameters"] if p.get("in") == "path"]
    if not schemas:
        return [path]
    if values := schemas[0].get("enum") or ([schemas[0]["example"]] if "example" in schemas[0] else []):
        return [re.sub(r"\{\w+\}", value, path) for value in values]
    if path.startswith("/sessions/"):
        return [path.format(id=(await message(url))["session_id"])]
    if path == "/stream/{turn}":
        return [path.format(turn=(await message(url))["turn"])]
    if path == "/upload/{id}/content":
        return []  # Takes exactly the announced bytes, which no example can show.
    if path == "/upload/{id}/complete":
        return [path.format(id=await upload_id(url))]
    if path.startswith("/v1/files/"):
        return [path.format(id=await file_id(url))]
    return [path.format(path=await image_name(url))]


async def message(url: str) -> JsonObject:
    """The answer to a message, which waits in its session."""
    status, _, answer = await request("POST", f"{url}/chat", json={"message": "Hello"}, headers=ADMIN)
    assert status == 200, answer
    body: JsonObject = answer
    return body


async def batch_id(url: str) -> str:
    """Of a batch whose items have their results."""
    body = {"items": [{"prompt": "Hello"}]}
    status, _, answer = await send("POST", f"{url}/batch", json=body, headers=ADMIN)
    assert status == 200, answer
    return str(orjson.loads(answer.splitlines()[0])["batch_id"])


async def file_id(url: str) -> str:
    """Of a file that was stored just now."""
    status, _, answer = await request("POST", f"{url}/v1/files", data=form({"purpose": "vision"}), headers=ADMIN)
    assert status == 200, answer
    return str(answer["id"])


async def upload_id(url: str) -> str:
    """Of an announced upload whose bytes have arrived."""
    body = {"name": "a.txt", "size_bytes": 3}
    status, _, answer = await request("POST", f"{url}/upload?resumable=1", json=body, headers=ADMIN)
    assert status == 200, answer
    assert (await request("PUT", answer["upload_url"], data=b"abc"))[0] == 200
    return str(answer["id"])


async def image_name(url: str) -> str:
    """Of an image that was made just now."""
    _, _, answer = await request("POST", f"{url}/generate", json={"prompt": "A lighthouse"}, headers=ADMIN)
    return str(answer["images"][0]["name"])


async def test_image_matches_spec() -> None:
    async with serving() as (url, document):
        operation = document["paths"]["/image/{path}"]["get"]
        name = await image_name(url)
        for given, status in (
            ({}, 200),
            ({"range": "bytes=0-9"}, 206),
            ({"if-none-match": "*"}, 304),
            ({"range": "bytes=100000000-"}, 416),
        ):
            told, headers, body = await send("GET", f"{url}/image/{name}", headers=given)
            assert told == status
            check(document, operation, told, headers, body)
            for header in operation["responses"][str(status)]["headers"]:
                assert header in headers or header == "server-timing"
        check(document, operation, *await send("GET", f"{url}/image/x"))


async def test_image_list_matches_spec() -> None:
    async with serving() as (url, document):
        operation = document["paths"]["/images"]["get"]
        for _ in range(2):
            await image_name(url)
        cursor = None
        for query, status in (("limit=1", 200), ("cursor={}", 200), ("limit=0", 400), ("cursor=x", 400)):
            told, headers, body = await send("GET", f"{url}/images?{query.format(cursor)}", headers=ADMIN)
            assert told == status
            check(document, operation, told, headers, body)
            cursor = body.get("next_cursor") or cursor
        (pattern,) = [one["schema"]["pattern"] for one in operation["parameters"] if one.get("name") == "cursor"]
        assert re.search(pattern, str(cursor))


async def test_every_operation_that_generates_has_an_example() -> None:
    for _, path, operation in operations(await specification()):
        if "requestBody" in operation:
            assert content_of(operation)[1]["examples"]["1"]["value"], path


async def test_401_matches_spec() -> None:
    guessed: set[str] = set()  # One wrong admin key for each function: a network that sends more gets 429.
    async with serving() as (url, document):
        for method, path, operation in operations(document):
            if not operation["security"]:
                continue
            of_a_key = "unauthorized" if operation["security"] == [{"AdminKey": []}] else "invalid_gemini_key"
            for headers, code in (
                ({}, "unauthorized"),
                ({"Admin-API-Key": "wrong"}, "unauthorized"),
                ({"x-goog-api-key": "AQ.invalid-key"}, of_a_key),
                ({"Authorization": "Bearer AQ.invalid-key"}, of_a_key),
            ):
                if code == "invalid_gemini_key" and "generation" not in operation["tags"]:
                    continue  # Only Gemini knows which keys are valid.
                if path == "/batch/{id}" and code == of_a_key:
                    continue  # A key that nobody knows has no batch.
                if headers == {"Admin-API-Key": "wrong"}:
                    first = operation["operationId"].partition("_")[0]
                    if first in guessed:
                        continue
                    guessed.add(first)
                if path == "/stream" and code == of_a_key:
                    # Only a message that waits is answered. The key is not yet known as invalid, so it is stored.
                    headers = {name: f"{value}-of-streams" for name, value in headers.items()}
                    await request("POST", f"{url}/chat", json={"message": "Hello"}, headers=headers)
                status, sent, answer = await request(method, url + path, headers=headers, **bodies_of(operation)[0])
                expected = "invalid_api_key" if path.startswith(OPENAI) else code
                assert (status, answer["error"]["code"]) == (401, expected), f"{method} {path}"
                check(document, operation, status, sent, answer)


async def test_400_matches_spec() -> None:
    async with serving() as (url, document):
        for method, path, operation in operations(document):
            media_type, content = content_of(operation)
            if media_type != "application/json":
                continue
            good = content["examples"]["1"]["value"]
            for status, rest in (
                (400, {"data": b"{"}),
                (400, {"json": {**good, "nothing_known": 1}}),
                (400, {"json": good, "headers": {"x-caller-id": "\u00e9"}}),
                (400, {"json": good, "headers": {"x-priority": "high"}}),
                (400, {"json": good, "headers": {"x-request-timeout": "0"}}),
                (404, {"json": {**good, "model": "gemini-99-ultra"}}),
                (415, {"data": b"a=1", "headers": {"content-type": "application/x-www-form-urlencoded"}}),
                (415, {"json": good, "headers": {"content-encoding": "br"}}),
            ):
                headers = {"content-type": "application/json", **ADMIN, **rest.pop("headers", {})}
                told, sent, answer = await request(method, url + path, headers=headers, **rest)
                assert told == status, answer
                check(document, operation, told, sent, answer)


OF_THE_EDGE = {
    "unauthorized",
    "forbidden",
    "not_found",
    "payload_too_large",
    "unsupported_media_type",
    "range_not_satisfiable",
    "nothing_pending",
    "batch_busy",
    "batch_differs",
}


async def test_400_of_a_form_matches_spec() -> None:
    async with serving() as (url, document):
        for method, path, operation in operations(document):
            if content_of(operation)[0] != FORM:
                continue
            unknown = form({**content_of(operation)[1]["examples"]["1"]["value"], "nothing_known": 1})
            without_file = aiohttp.FormData({"prompt": "x", "purpose": "vision"}, default_to_multipart=True)
            for status, rest in (
                (400, {"data": unknown}),
                (400, {"data": without_file}),
                (400, {"data": b"--", "headers": {"content-type": f"{FORM}; boundary=x"}}),
                (400, {"data": b"--", "headers": {"content-type": FORM}}),
                (415, {"json": {}}),
            ):
                told, sent, answer = await request(
                    method, url + path, headers={**ADMIN, **rest.pop("headers", {})}, **rest
                )
                assert told == status, answer
                check(document, operation, told, sent, answer)


def raised(manifest: Manifest, operation: Operation) -> list[type[GatewayError]]:
    """What the gateway may raise for it."""
    objects = "object" in traits_of(manifest, next(iter(manifest.paths)), operation)
    never = {
        *OF_THE_EDGE,
        *([] if objects else ["nonconforming_answer"]),
        *(["storage_unavailable"] if manifest.storage == "none" else []),
    }
    return [error for error in tree() if error not in NEVER_TOLD_OF and error.code not in never]


@pytest.mark.parametrize(("name", "key"), SINGLE, ids=lambda value: value.removeprefix("POST "))
async def test_every_gateway_error_matches_spec(name: str, key: str) -> None:
    document = await specification()
    path = key.removeprefix("POST ")
    manifest = next(manifest for manifest in MANIFESTS if manifest.name == name)
    described = document["paths"][path]["post"]
    body = content_of(described)[1]["examples"]["1"]["value"]
    for error in raised(manifest, OPERATIONS[name, key]):
        given = error("What happened.", retry_after_s=3 if error.status == 429 else None)
        answer = await called(name, body, services=FakeServices(FakeGateway(given)), path=path)
        if not path.startswith(OPENAI):
            assert (answer.status, answer.error["code"]) == (error.status, error.code)
        check(document, described, answer.status, answer.headers, answer.json())


async def test_every_error_code_is_documented() -> None:
    """Those of OpenAI's API are in the text alone: there a code may depend on the error's details."""
    told = {
        code
        for _, path, operation in operations(await specification())
        for status, response in operation["responses"].items()
        if int(status) >= 400 and not path.startswith(OPENAI)
        for code in response["content"]["application/json"]["schema"]["allOf"][1]["properties"]["error"]["properties"][
            "code"
        ]["enum"]
    }
    assert told == {error.code for error in tree() if error not in NEVER_TOLD_OF}
