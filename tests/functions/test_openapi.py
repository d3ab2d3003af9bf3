"""GET /openapi.json is the whole truth: every path is in it, what it shows works, and what comes back is as it says."""

from __future__ import annotations

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
from shared.openapi.failures import tree
from tests.support.edge import ADMIN, Answer, FakeGateway, FakeServices, ask
from tests.support.functions import called
from tests.support.processes import ROOT, request, served

JsonObject = dict[str, Any]
MANIFESTS = load_all(ROOT / "functions")
GENERATING = [m.name for m in MANIFESTS if m.access != "public"]
NEVER_TOLD_OF = {CallerGone, MethodNotAllowed, StaleConfiguration}
"""Never sent; for methods that are not in the specification; for changes of the configuration, which have no operation yet."""
OWN_HEADERS = ("x-request-id", "x-ratelimit-", "x-model-", "retry-after", "server-timing")


async def specification() -> JsonObject:
    with patch("shared.bootstrap.services", FakeServices):
        return (await ask(console, "GET", "/openapi.json")).json()


def operations(document: JsonObject) -> Iterator[tuple[str, str, JsonObject]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def operation_of(document: JsonObject, manifest: Manifest) -> JsonObject:
    """Of a function that has one."""
    ((path, (method,)),) = manifest.paths.items()
    return document["paths"][path][method.lower()]


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
    schema = described["content"][media_type].get("schema")
    if schema is None:
        assert body, "bytes of which there is nothing to say"
    elif media_type == "text/event-stream":
        check_events(document, schema, body)
    else:
        validate(body, schema, document)


def check_events(document: JsonObject, schema: JsonObject, body: str) -> None:
    answer = Answer(chunks=[body.encode()])
    events = answer.events()
    assert events[-1][1]["done"] is True
    for name, data in events:
        validate({"event": name, "data": orjson.dumps(data).decode()}, schema, document)
        validate(data, schema["properties"]["data"]["contentSchema"], document)


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
    if any("POST" in methods for methods in manifest.paths.values()):
        assert "Request" in models


def test_missing_import_in_models_is_raised() -> None:
    """It is not mistaken for a function without models."""
    missing = patch.object(importlib, "import_module", side_effect=ModuleNotFoundError(name="pydantic"))
    with missing, pytest.raises(ModuleNotFoundError):
        models_of("chat")


async def test_examples_work_and_answers_match_spec() -> None:
    shown = 0
    async with serving() as (url, document):
        for method, path, operation in operations(document):
            (content,) = operation.get("requestBody", {"content": {"": {}}})["content"].values()
            for body in [example["value"] for example in content.get("examples", {}).values()] or [None]:
                for address in await addresses(url, path, operation):
                    status, headers, answer = await send(method, url + address, json=body, headers=ADMIN)
                    assert status in (200, 204), f"{method} {address} {body}: {answer}"
                    check(document, operation, status, headers, answer)
                    shown += body is not None
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
    schemas = [p["schema"] for p in operation["parameters"] if p.get("in") == "path"]
    if not schemas:
        return [path]
    return [path.format(path=value) for value in schemas[0].get("enum") or [await image_name(url)]]


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
            assert operation["requestBody"]["content"]["application/json"]["examples"]["1"]["value"], path


async def test_401_matches_spec() -> None:
    async with serving() as (url, document):
        for method, path, operation in operations(document):
            if not operation["security"]:
                continue
            content = operation.get("requestBody", {}).get("content")
            body = content["application/json"]["examples"]["1"]["value"] if content else None
            of_a_key = "unauthorized" if operation["security"] == [{"AdminKey": []}] else "invalid_gemini_key"
            for headers, code in (
                ({}, "unauthorized"),
                ({"Admin-API-Key": "wrong"}, "unauthorized"),
                ({"x-goog-api-key": "AQ.invalid-key"}, of_a_key),
                ({"Authorization": "Bearer AQ.invalid-key"}, of_a_key),
            ):
                status, sent, answer = await request(method, url + path, json=body, headers=headers)
                assert (status, answer["error"]["code"]) == (401, code)
                check(document, operation, status, sent, answer)


async def test_400_matches_spec() -> None:
    async with serving() as (url, document):
        for method, path, operation in operations(document):
            if "requestBody" not in operation:
                continue
            good = operation["requestBody"]["content"]["application/json"]["examples"]["1"]["value"]
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
}


def raised(manifest: Manifest) -> list[type[GatewayError]]:
    """What the gateway may raise for it."""
    objects = "data" in models_of(manifest.name)["Answer"].model_fields
    never = {
        *OF_THE_EDGE,
        *([] if objects else ["nonconforming_answer"]),
        *(["storage_unavailable"] if manifest.storage == "none" else []),
    }
    return [error for error in tree() if error not in NEVER_TOLD_OF and error.code not in never]


@pytest.mark.parametrize("name", GENERATING)
async def test_every_gateway_error_matches_spec(name: str) -> None:
    document = await specification()
    manifest = next(manifest for manifest in MANIFESTS if manifest.name == name)
    operation = operation_of(document, manifest)
    content = operation["requestBody"]["content"]["application/json"]
    body = content["examples"]["1"]["value"]
    for error in raised(manifest):
        services = FakeServices(FakeGateway(error("What happened.", retry_after_s=3 if error.status == 429 else None)))
        answer = await called(name, body, services=services)
        assert (answer.status, answer.error["code"]) == (error.status, error.code)
        check(document, operation, answer.status, answer.headers, answer.json())


async def test_every_error_code_is_documented() -> None:
    told = {
        code
        for *_, operation in operations(await specification())
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for code in response["content"]["application/json"]["schema"]["allOf"][1]["properties"]["error"]["properties"][
            "code"
        ]["enum"]
    }
    assert told == {error.code for error in tree() if error not in NEVER_TOLD_OF}
