"""What Gemini gets of a session: its history, its files, and no more than the model takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest

from tests.support.edge import ADMIN
from tests.support.whole_path import WholePath, whole_path

TEXT = b"A text that is sent by its name. " * 100


@asynccontextmanager
async def sessions_on(tmp_path: Path, **rest: Any) -> AsyncIterator[WholePath]:
    async with whole_path(STORAGE_URL=f"file://{tmp_path}", REQUEST_TIMEOUT_SECONDS="30", **rest) as path:
        yield path


async def say(path: WholePath, text: str) -> str:
    """Gemini's answer to a message, by its stream. The offline Gemini tells what it got."""
    answer = await path.send("POST", "/chat", orjson.dumps({"message": text}))
    assert answer.status == 200, answer.body
    return await answered(path)


async def answered(path: WholePath) -> str:
    answer = await path.send("GET", "/stream")
    assert answer.status == 200, answer.body
    assert b"event: done" in answer.body, answer.body
    (turn,) = (await path.send("GET", f"/sessions/{answer.headers['x-session-id']}?limit=1")).json()["turns"]
    return str(turn["answer"])


async def upload(path: WholePath, data: bytes = TEXT) -> Mapping[str, Any]:
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="notes.txt"\r\n\r\n' + data + b"\r\n--b--\r\n"
    answer = await path.send("POST", "/upload", form, {**ADMIN, "content-type": "multipart/form-data; boundary=b"})
    assert answer.status == 200, answer.body
    body: Mapping[str, Any] = answer.json()
    return body


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


async def test_messages_without_an_answer_are_sent_with_the_next(tmp_path: Path) -> None:
    async with sessions_on(tmp_path) as path:
        await path.send("POST", "/chat", orjson.dumps({"message": "First, my name is Ada."}))
        assert "messages came before it" not in await say(path, "Then, I like tea.")
        assert "2 messages came before it; the first began with “First, my name is Ada." in await say(path, "Who am I?")


@pytest.mark.parametrize("inline_bytes", [10_000, 1_000])
async def test_a_file_goes_with_its_message(tmp_path: Path, inline_bytes: int) -> None:
    """A small one inside the request, a larger one by the name of Gemini's copy; and again with the history."""
    with patch("shared.http.stored_files.INLINE_BYTES", inline_bytes):
        async with sessions_on(tmp_path) as path:
            await upload(path)
            assert "With it came" in await say(path, "What is this?")
            assert "2 messages came before it" in await say(path, "And in short?")
            assert path.gemini.stats()["by_method"].get("UploadFile", 0) == (0 if inline_bytes > len(TEXT) else 2)


async def test_an_upload_alone_is_answered(tmp_path: Path) -> None:
    async with sessions_on(tmp_path) as path:
        await upload(path)
        assert "With it came" in await answered(path)
        assert (await path.send("GET", "/stream")).status == 409


async def test_an_expired_file_does_not_end_its_session(tmp_path: Path) -> None:
    async with sessions_on(tmp_path) as path:
        file = await upload(path)
        await say(path, "What is this?")
        (key,) = [
            key for key in await path.services.store.list("files/") if key.endswith(file["id"].removeprefix("file-"))
        ]
        await path.services.store.transact([key], lambda values, _: _deleted(values))
        assert "2 messages came before it" in await say(path, "And in short?")


@pytest.mark.parametrize("inline_bytes", [10_000, 1_000])
async def test_lost_bytes_do_not_end_their_session(tmp_path: Path, inline_bytes: int) -> None:
    """The storage has them no longer, for example after its folder was emptied, though the entry has not expired."""
    with patch("shared.http.stored_files.INLINE_BYTES", inline_bytes):
        async with sessions_on(tmp_path) as path:
            await upload(path)
            empty(tmp_path / "files")
            assert "With it came" not in await say(path, "What is this?")
            await upload(path)
            assert "With it came" in await say(path, "And this?")


def _deleted(values: Any) -> Any:
    from shared.stores.port import Change

    return Change(None, dict.fromkeys(values))


async def test_a_long_session_is_trimmed_to_half_a_minute(tmp_path: Path) -> None:
    """Of its tokens. The oldest turns are left out; Gemini's count decides how many, since the estimate is too high."""
    async with sessions_on(tmp_path, GEMINI_TPM="200000") as path:
        for number in range(24):
            text = f"Part {number} " + "of a long story " * 2000
            answer = await path.send("POST", "/chat", orjson.dumps({"message": text}))
        await say(path, "What was it about?")
        turn = (await path.send("GET", f"/sessions/{answer.json()['session_id']}?limit=1")).json()["turns"][0]
        assert 85_000 < turn["usage"]["prompt_tokens"] <= 100_000
        assert path.gemini.stats()["by_method"]["countTokens"] <= 4
        assert path.gemini.stats()["by_method"]["streamGenerateContent"] == 1


@pytest.mark.parametrize(
    ("fault", "code"), [("block", "prompt_blocked"), ("safety", "response_blocked"), ("400", "rejected_by_gemini")]
)
async def test_rejected_content_does_not_end_its_session(tmp_path: Path, fault: str, code: str) -> None:
    """Neither when it is answered alone, nor when another message came before the answer."""
    async with sessions_on(tmp_path) as path:
        await say(path, "My name is Ada.")
        for texts in ([f"[[fault:{fault}]]"], [f"[[fault:{fault}]]", "And this?"]):
            for text in texts:
                sid = (await path.send("POST", "/chat", orjson.dumps({"message": text}))).json()["session_id"]
            failed = await path.send("GET", "/stream")
            assert failed.status == 400 or b"event: error" in failed.body, failed.body
            error = (await path.send("GET", f"/sessions/{sid}?limit=1")).json()["turns"][0]["error"]
            assert error["code"] == code
            assert "the first began with “My name is Ada." in await say(path, "Who am I?")
