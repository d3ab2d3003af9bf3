"""Forms of a request: files and fields, bounds, and what is held of the process's memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from shared.bounds.byte_budget import Bucket
from shared.generation import JsonObject
from shared.http import request_body
from shared.http.call import Call
from shared.http.endpoint import EndpointApp
from shared.http.forms import MAX_FIELD_BYTES, MAX_OTHER_BYTES, Form, received_form
from shared.http.manifest import Manifest
from shared.http.multipart import Part
from tests.support.edge import ADMIN, Answer, FakeServices, ask

MANIFEST = Manifest("forms", "Takes forms.", {"/forms": ("POST",)}, "credential", 256, 1, 8, 60, ())
HEADERS = {**ADMIN, "content-type": "multipart/form-data; boundary=b"}
Handler = Callable[[Call], Awaitable[Response | JsonObject]]


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    named = "" if filename is None else f'; filename="{filename}"'
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b--\r\n"


def shown(read: Form) -> JsonObject:
    files = [
        [file.field, file.filename, file.size_bytes, file.data.decode()] for one in read.files.values() for file in one
    ]
    return {"fields": read.fields, "files": files}


def reading(files: dict[str, int], max_bytes: int = 100, then: Callable[[Form], Any] = shown) -> Handler:
    async def handler(call: Call) -> JsonObject:
        async with received_form(call, files, max_bytes=max_bytes) as read:
            result: JsonObject = then(read)
            return result

    return handler


async def sent(
    handler: Handler, content: bytes | list[bytes], services: FakeServices | None = None, **rest: Any
) -> Answer:
    made = services or FakeServices()
    edge = EndpointApp(handler, MANIFEST, services=lambda: made)  # type: ignore[arg-type,return-value]
    answer = await ask(edge.answer, "POST", "/forms", content=content, **{"headers": HEADERS, **rest})
    assert made.byte_budget.used_bytes == 0
    return answer


FILE = reading({"file": 1})


async def test_fields_and_files_are_read_in_any_pieces() -> None:
    body = form(part("purpose", b"user_data"), part("file", b"abc", "a.txt"), part("tag", b"1"), part("tag", b"2"))
    expected = {"fields": {"purpose": ["user_data"], "tag": ["1", "2"]}, "files": [["file", "a.txt", 3, "abc"]]}
    assert (await sent(FILE, body)).json() == expected
    assert (await sent(FILE, [body[at : at + 1] for at in range(len(body))])).json() == expected


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([part("file", b"x")], "file must be a file"),
        ([part("other", b"x", "a")], "other must not be a file. Send files in file."),
        ([part("file", b"x", "a"), part("file", b"y", "b")], "file takes one file"),
        ([part("file", b"x", "")], "file has no file name"),
        ([part("purpose", b"\xff"), part("file", b"x", "a")], "purpose must be UTF-8"),
        ([part("purpose", b"x" * (MAX_FIELD_BYTES + 1))], "purpose is too long"),
    ],
)
async def test_invalid_form_names_the_field(parts: list[bytes], message: str) -> None:
    answer = await sent(FILE, form(*parts))
    assert answer.status == 400
    assert answer.error["message"].startswith(message)
    assert message.startswith(answer.error["details"]["field"])


async def test_fields_are_bounded_together() -> None:
    fields = [part(f"f{number}", b"x" * MAX_FIELD_BYTES) for number in range(MAX_OTHER_BYTES // MAX_FIELD_BYTES + 1)]
    answer = await sent(reading({"file": 1}, MAX_OTHER_BYTES), form(*fields))
    assert (answer.status, answer.error["details"]["field"]) == (400, "f4")


async def test_missing_file_is_rejected_where_it_is_needed() -> None:
    answer = await sent(reading({"file": 1}, then=lambda read: read.file("file")), form(part("a", b"b")))
    assert (answer.status, answer.error["details"]) == (400, {"field": "file"})


async def test_repeated_field_is_rejected_where_one_is_read() -> None:
    answer = await sent(reading({}, then=lambda read: read.text("a")), form(part("a", b"b"), part("a", b"c")))
    assert (answer.status, answer.error["details"]) == (400, {"field": "a"})


async def test_files_are_bounded_together() -> None:
    two = reading({"image[]": 2}, 6)
    assert (await sent(two, form(part("image[]", b"abc", "a"), part("image[]", b"def", "b")))).status == 200
    answer = await sent(two, form(part("image[]", b"abc", "a"), part("image[]", b"defg", "b")))
    assert (answer.status, answer.error["details"]) == (413, {"field": "image[]", "limit_bytes": 6})


async def test_declared_size_is_rejected_before_the_body() -> None:
    """A client that declares 2 GB is answered without its body."""
    answer = await sent(FILE, [b""], headers={**HEADERS, "content-length": str(2 << 30)})
    assert answer.status == 413


async def test_whole_body_is_bounded() -> None:
    """What follows the form counts too."""
    body = form(part("file", b"x", "a"))
    answer = await sent(FILE, [body, b"\r\n" * MAX_OTHER_BYTES])
    assert answer.status == 413


async def test_file_that_never_fits_in_memory_is_not_retried() -> None:
    services = FakeServices(environment={"QUEUE_MAX_MB": "1"})
    answer = await sent(reading({"file": 1}, 4 << 20), form(part("file", b"x" * (1 << 20), "a")), services)
    assert (answer.status, answer.error["code"]) == (413, "payload_too_large")


async def test_file_that_does_not_fit_now_is_retried() -> None:
    services = FakeServices(environment={"QUEUE_MAX_MB": "1"})
    claim = services.byte_budget.claim(Bucket("another", known=True))
    claim.grow(900_000)
    body = form(part("file", b"x" * 200_000, "a"))
    made = EndpointApp(reading({"file": 1}, 1 << 20), MANIFEST, services=lambda: services)  # type: ignore[arg-type,return-value]
    answer = await ask(made.answer, "POST", "/forms", content=body, headers=HEADERS)
    assert (answer.status, answer.error["code"]) == (503, "queue_full")
    assert services.byte_budget.used_bytes == 900_000


async def test_truncated_form_is_rejected() -> None:
    assert (await sent(FILE, form(part("file", b"x", "a"))[:-8])).status == 400


async def test_json_is_refused_with_what_to_send() -> None:
    answer = await sent(FILE, b"{}", headers={**ADMIN, "content-type": "application/json"})
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    assert "multipart/form-data" in answer.error["message"]


async def test_several_content_types_are_refused_at_once() -> None:
    """A body that may be JSON is read for a credential, so nothing of it arrives a second time."""
    several = f"{HEADERS['content-type']}, application/json"
    answer = await sent(FILE, form(part("file", b"x", "a")), headers={**ADMIN, "content-type": several})
    assert (answer.status, "several types" in answer.error["message"]) == (415, True)


async def received(handler: Handler, messages: list[Any], services: FakeServices) -> Answer:
    """The answer to a body that arrives in `messages`, after which nothing comes any more."""
    edge = EndpointApp(handler, MANIFEST, services=lambda: services)  # type: ignore[arg-type,return-value]

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait()

    async def answered(request: Request) -> Response:
        return await edge.answer(Request(request.scope, receive))

    return await ask(answered, "POST", "/forms", headers=HEADERS)


async def test_slow_form_is_rejected_and_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "GRACE_S", 0.0)
    services, begun = FakeServices(), form(part("file", b"x" * 99, "a"))[:-20]
    answer = await received(FILE, [{"type": "http.request", "body": begun, "more_body": True}], services)
    assert (answer.status, "too slowly" in answer.error["message"]) == (400, True)
    assert services.byte_budget.used_bytes == 0


async def test_caller_gone_within_the_form_is_noticed() -> None:
    services, begun = FakeServices(), form(part("file", b"x" * 99, "a"))[:-20]
    messages = [{"type": "http.request", "body": begun, "more_body": True}, {"type": "http.disconnect"}]
    answer = await received(FILE, messages, services)
    assert (answer.status, answer.error["code"]) == (499, "caller_gone")
    assert services.byte_budget.used_bytes == 0


async def test_compressed_form_is_refused() -> None:
    answer = await sent(FILE, form(part("file", b"x", "a")), headers={**HEADERS, "content-encoding": "gzip"})
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")


async def test_credential_is_checked_before_the_body_is_read() -> None:
    seen: list[Call] = []

    async def handler(call: Call) -> JsonObject:
        seen.append(call)
        return {}

    answer = await sent(handler, form(part("file", b"x", "a")), headers={"content-type": HEADERS["content-type"]})
    assert (answer.status, seen) == (401, [])


async def test_pieces_are_handed_on_without_being_held() -> None:
    pieces: list[tuple[str, bytes]] = []
    held: list[int] = []

    async def handler(call: Call) -> JsonObject:
        async def take(head: Part, piece: bytes) -> None:
            pieces.append((head.name, piece))
            held.append(call.claim.held_bytes)

        async with received_form(call, {"file": 1}, max_bytes=1000, take=take) as read:
            return shown(read)

    body = form(part("file", b"x" * 500, "a"))
    answer = await sent(handler, [body[at : at + 100] for at in range(0, len(body), 100)])
    assert answer.json() == {"fields": {}, "files": [["file", "a", 500, ""]]}
    assert b"".join(piece for _, piece in pieces) == b"x" * 500
    assert len(pieces) > 4
    assert set(held) == {0}


async def test_caller_gone_after_the_form_ends_the_work() -> None:
    gone, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(call: Call) -> JsonObject:
        async with received_form(call, {"file": 1}, max_bytes=100):
            gone.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
        return {}

    answer = await sent(handler, form(part("file", b"x", "a")), hang_up=gone)
    assert answer.chunks == []
    assert cancelled.is_set()
