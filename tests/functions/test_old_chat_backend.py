"""The calls that the small chat backend's own documentation shows, by curl as its users send them, with the environment that
they set: GOOGLE_API_KEY, GEMINI_MODEL_TYPE (by now a retired model) and CORS_ORIGIN. No call knows of sessions or credentials."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from shared.emulator.running import running
from tests.support.image_samples import written
from tests.support.processes import served

ORIGIN = "https://your-domain.com"
ENVIRONMENT = {
    "GOOGLE_API_KEY": "AQ.key-of-the-operator",
    "GEMINI_MODEL_TYPE": "gemini-2.5-flash-preview-04-17",
    "CORS_ORIGIN": ORIGIN,
    # As `make run` has it: the old server asked nobody for a credential.
    "ALLOW_ANONYMOUS": "generate,generate_text,sessions,openai_api",
}
JSON = ("-H", "Content-Type: application/json")
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@asynccontextmanager
async def backend(folder: Path) -> AsyncIterator[str]:
    async with running() as gemini:
        settings = {**ENVIRONMENT, "GEMINI_BASE_URL": gemini.url, "STORAGE_URL": f"file://{folder}"}
        async with served(settings) as server:
            yield server.url


async def curl(*arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", "--max-time", "60", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


async def streamed(url: str) -> str:
    """What the old frontend shows: the data of each event that has no other name, one after the other."""
    text = ""
    for block in (await curl("--no-buffer", f"{url}/stream")).decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        fields = [line.split(": ", 1) for line in lines]
        if all(value == "message" for name, value in fields if name == "event"):
            text += "\n".join(value for name, value in fields if name == "data")
    return text


async def said(url: str, path: str, body: dict[str, str]) -> dict[str, object]:
    answer: dict[str, object] = orjson.loads(
        await curl("-X", "POST", *JSON, "-d", orjson.dumps(body).decode(), url + path)
    )
    return answer


async def test_documented_calls_work_unchanged(tmp_path: Path) -> None:
    """One conversation for the server's only user, in the order of the documentation."""
    (tmp_path / "picture.png").write_bytes(written("PNG", (40, 30)))
    async with backend(tmp_path / "files") as url:
        healthy = orjson.loads(await curl(f"{url}/"))
        assert (healthy["status"], healthy["message"]) == ("healthy", "Gemini API backend running")

        answer = await said(url, "/generate_text", {"prompt": "Say hello."})
        assert "Say hello." in str(answer["generated_text"])

        upload = orjson.loads(await curl("-F", f"file=@{tmp_path}/picture.png", f"{url}/upload"))
        assert upload["success"] is True
        assert (await said(url, "/chat", {"message": "What is in the picture?"}))["success"] is True
        text = await streamed(url)
        assert "What is in the picture?" in text
        assert "image/png" in text
        assert "gemini-3.8-flash" in text, "the retired model's successor answers"

        assert (await said(url, "/chat", {"message": "And what did I ask before?"}))["success"] is True
        assert "2 messages came before it" in await streamed(url)


async def test_only_the_configured_origin_may_read_answers(tmp_path: Path) -> None:
    async with backend(tmp_path) as url:
        for origin, allowed in ((ORIGIN, True), ("https://another.example", False)):
            heads = await curl("-i", "-H", f"Origin: {origin}", f"{url}/")
            assert (f"access-control-allow-origin: {origin}".encode() in heads.lower()) == allowed


async def test_nothing_to_answer_is_an_error_that_says_what_to_send(tmp_path: Path) -> None:
    async with backend(tmp_path) as url:
        error = orjson.loads(await curl(f"{url}/stream"))["error"]
    assert error["status"] == 409
    assert "POST /chat" in error["message"]
