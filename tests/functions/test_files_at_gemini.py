"""Large stored files of a chat, over HTTP: uploaded to the project that serves the request, used again, and moved with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import orjson

from tests.support.edge import ADMIN, Answer
from tests.support.whole_path import OWN_KEY, OWN_LEDGER, WholePath, whole_path

ONE, TWO = "AQ.key-one", "AQ.key-two"
PROJECTS = {ONE: "one", TWO: "two"}
OWN = {"authorization": f"Bearer {OWN_KEY}"}
TEXT = b"A text that is sent by its name. " * 100
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 3000


@asynccontextmanager
async def with_files(**rest: Any) -> AsyncIterator[WholePath]:
    """A gateway that sends files of more than 1,000 bytes by their names, in pieces of 1 KB."""
    with (
        patch("shared.http.stored_files.INLINE_BYTES", 1000),
        patch("shared.gemini.file_uploads.PIECE_BYTES", 1024),
        patch("shared.gateway.file_copies.MIN_POLL_S", 0.1),
    ):
        async with whole_path(**{"accounts": PROJECTS, "REQUEST_TIMEOUT_SECONDS": 60, **rest}) as path:
            yield path


async def store(path: WholePath, data: bytes = TEXT, headers: Mapping[str, str] = ADMIN) -> str:
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + data + b"\r\n--b--\r\n"
    given = {**headers, "content-type": "multipart/form-data; boundary=b"}
    answer = await path.send("POST", "/v1/files", form, given)
    assert answer.status == 200, answer.body
    return str(answer.json()["id"])


async def ask(
    path: WholePath, *ids: str, text: str = "Read it.", headers: Mapping[str, str] = ADMIN, **fields: Any
) -> Answer:
    files = [{"type": "file", "file_id": one} for one in ids]
    body = {"messages": [{"role": "user", "content": [*files, {"type": "text", "text": text}]}], **fields}
    return await path.send("POST", "/v1/chat/completions", orjson.dumps(body), headers)


def read_by(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    text: str = answer.json()["choices"][0]["message"]["content"]
    assert "With it came a file" in text
    return text


def copies(path: WholePath) -> dict[str, int]:
    """By project: the files that Gemini has."""
    kept = {project: len(list(path.gemini.app.files.names(project))) for project in ("one", "two", OWN_LEDGER)}
    return {project: count for project, count in kept.items() if count}


async def test_ten_requests_take_one_upload() -> None:
    async with with_files() as path:
        file_id = await store(path)
        for answer in await asyncio.gather(*(ask(path, file_id) for _ in range(5))):
            read_by(answer)
        for _ in range(5):
            read_by(await ask(path, file_id))
        assert sum(copies(path).values()) == 1
        assert len(path.sent_by_key) == 1
        # A start, four pieces.
        assert path.gemini.stats()["by_method"]["UploadFile"] == 5


async def test_a_file_of_16_mb_is_not_sent_inside_the_request() -> None:
    """With the real limits, and with limits of tokens that the estimate by its size exceeds: Gemini counts it."""
    async with whole_path(accounts={ONE: "one"}, REQUEST_TIMEOUT_SECONDS=60) as path:
        file_id = await store(path, b"A text. " * 2**21)
        read_by(await ask(path, file_id))
        by_method = path.gemini.stats()["by_method"]
        assert (by_method["UploadFile"], by_method["countTokens"]) == (3, 1)


async def test_a_spent_day_moves_the_file_to_another_project() -> None:
    async with with_files() as path:
        file_id = await store(path)
        read_by(await ask(path, file_id))
        (first,) = copies(path)
        read_by(await ask(path, file_id, text="[[fault:429-dayx1]] Read it."))
        assert copies(path) == {"one": 1, "two": 1}
        # The spent project is known: nothing more is uploaded or sent there.
        before = path.sent_by_key
        read_by(await ask(path, file_id))
        spent = next(key for key, project in PROJECTS.items() if project == first)
        assert (copies(path), path.sent_by_key[spent]) == ({"one": 1, "two": 1}, before[spent])


async def test_a_stream_moves_with_its_file_too() -> None:
    async with with_files() as path:
        file_id = await store(path)
        answer = await ask(path, file_id, text="[[fault:429-dayx1]] Read it.", stream=True)
        assert (answer.status, b"With it came a file" in answer.body, b"[DONE]" in answer.body) == (200, True, True)
        assert copies(path) == {"one": 1, "two": 1}


async def test_when_both_projects_are_spent_the_caller_learns_it() -> None:
    async with with_files() as path:
        file_id = await store(path)
        answer = await ask(path, file_id, text="[[fault:429-day]] Read it.")
        assert (answer.status, answer.error["code"]) == (429, "insufficient_quota"), answer.body
        assert copies(path) == {"one": 1, "two": 1}


async def test_a_rejected_key_moves_the_file() -> None:
    """The upload finds out about the key, which is not used again."""
    accounts = {"AQ.invalid-key": "one", TWO: "two"}
    in_order = patch("shared.gateway.file_placement._mixed", lambda key, project: project.encode())
    async with with_files(accounts=accounts) as path:
        with in_order:
            read_by(await ask(path, await store(path)))
        assert (copies(path), path.gemini.stats()["by_method"]["UploadFile"]) == ({"two": 1}, 6)
        assert list(path.services.pool.disabled().values()) == ["key_invalid"]


async def test_a_copy_that_gemini_forgot_is_uploaded_once_more() -> None:
    async with with_files() as path:
        file_id = await store(path)
        read_by(await ask(path, file_id))
        ((project, _),) = copies(path).items()
        path.gemini.app.files._expiry_s.clear()
        path.gemini.app.files._files.clear()
        read_by(await ask(path, file_id))
        assert copies(path) == {project: 1}
        assert path.gemini.stats()["refused"] == {"permission_denied": 1}


async def test_a_video_is_used_when_gemini_has_processed_it() -> None:
    async with with_files() as path:
        file_id = await store(path, MP4)
        assert "video/mp4" in read_by(await ask(path, file_id))
        assert path.gemini.stats()["by_method"]["GetFile"] >= 2
        assert path.gemini.stats()["refused"] == {}
        described = path.gemini.stats()["by_method"]["GetFile"]
        read_by(await ask(path, file_id))
        assert path.gemini.stats()["by_method"]["GetFile"] == described


async def test_deleting_a_file_deletes_gemini_s_copies() -> None:
    async with with_files() as path:
        file_id = await store(path)
        read_by(await ask(path, file_id, text="[[fault:429-dayx1]] Read it."))
        assert copies(path) == {"one": 1, "two": 1}
        assert (await path.send("DELETE", f"/v1/files/{file_id}")).status == 200
        assert copies(path) == {}
        assert (await ask(path, file_id)).status == 404
        assert await path.services.store.list("bindings/") == []


async def test_a_callers_own_key_has_copies_of_its_own() -> None:
    async with with_files() as path:
        file_id = await store(path, headers=OWN)
        read_by(await ask(path, file_id, headers=OWN))
        read_by(await ask(path, file_id, headers=OWN))
        assert copies(path) == {OWN_LEDGER: 1}
        assert (await ask(path, file_id)).status == 404
        answer = await ask(path, file_id, headers=OWN, text="[[fault:429-day]] Read it.")
        assert (answer.status, copies(path)) == (429, {OWN_LEDGER: 1})


async def test_several_answers_take_one_upload() -> None:
    async with with_files() as path:
        answer = await ask(path, await store(path), n=3)
        assert ["With it came a file" in one["message"]["content"] for one in answer.json()["choices"]] == [True] * 3
        assert sum(copies(path).values()) == 1


async def test_several_files_go_to_one_project() -> None:
    async with with_files() as path:
        ids = [await store(path, TEXT + bytes([65 + n])) for n in range(6)]
        small = await store(path, b"small")
        read_by(await ask(path, *ids[:3], small))
        read_by(await ask(path, *ids[3:]))
        read_by(await ask(path, *ids))
        assert path.gemini.stats()["refused"] == {}
