"""Answers that come wrapped, or without what Gemini counted, on every endpoint and over real sockets: paid for once."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from functions.chat import models as chat_models
from functions.generate import models as image_models
from functions.structured_output import models as object_models
from shared.emulator.config import Limits, Project
from shared.emulator.odd_documents import DOCUMENTS
from shared.emulator.wrappings import NAMES
from tests.support.edge import Answer
from tests.support.whole_path import MODEL, WAYS, WholePath, text_of, whole_path

UNCOUNTED = sorted({name for name in DOCUMENTS if name.startswith("usage-")} - {"usage-late", "usage-total"})
UNKNOWN = dict.fromkeys(("prompt_tokens", "output_tokens", "thinking_tokens", "total_tokens"))
CHAINS = (
    "bom+gzip",
    "sse+done-marker+no-final-blank-line",
    "array+brotli",
    "nulls+halves+stray-tail",
    "utf16+lines+guard",
)


async def ask_for_object(path: WholePath, prompt: str) -> Answer:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    body = {"user_content": prompt, "system_prompt": "Answer in JSON.", "json_schema": schema}
    return await path.send("POST", "/structured-output", orjson.dumps(body))


async def ask_for_images(path: WholePath, prompt: str, count: int) -> Answer:
    body = {"prompt": prompt, "number_of_images": count}
    return await path.send("POST", "/generate", orjson.dumps(body))


def usage_of(answer: Answer) -> dict[str, Any]:
    if answer.headers["content-type"].startswith("text/event-stream"):
        usage = answer.events()[-1][1]["usage"]
    else:
        usage = answer.json()["usage"]
    assert isinstance(usage, dict)
    return usage


@pytest.mark.parametrize("chain", [*sorted(NAMES), *CHAINS])
async def test_the_text_is_the_same_for_one_paid_request(chain: str) -> None:
    async with whole_path() as path:
        for way in ("chat", "stream"):
            text = text_of(await path.ask("Hello", way=way))
            path.gemini.app.faults.order(chain)
            wrapped = text_of(await path.ask("Hello", way=way))
            assert wrapped.replace("😀", "").replace("\ufffd", "") == text
        assert (path.sent, await path.dispatched()) == (4, 4)


@pytest.mark.parametrize("chain", CHAINS)
async def test_objects_and_images_come_through_too(chain: str) -> None:
    async with whole_path() as path:
        named = await ask_for_object(path, f"[[fault:{chain.replace('halves+', '')}]] Name a thing.")
        assert (named.status, type(named.json()["data"]["name"])) == (200, str)
        drawn = await ask_for_images(path, f"[[fault:{chain}]] A house.", 1)
        assert (drawn.status, drawn.json()["images"][0]["mime_type"]) == (200, "image/png")
        assert path.sent == 2


class TestUnknownUsage:
    @pytest.mark.parametrize("form", UNCOUNTED)
    async def test_every_endpoint_answers_null(self, form: str) -> None:
        async with whole_path() as path:
            answer = await path.ask(f"[[fault:{form}]]", way="chat")
            assert usage_of(answer) == UNKNOWN
            chat_models.Answer.model_validate(answer.json())
            assert usage_of(await path.ask(f"[[fault:{form}]]", way="stream")) == UNKNOWN
            named = await ask_for_object(path, f"[[fault:{form}]] Name a thing.")
            assert usage_of(named) == UNKNOWN
            object_models.Answer.model_validate(named.json())
            drawn = await ask_for_images(path, f"[[fault:{form}]] A house.", 2)
            assert usage_of(drawn) == UNKNOWN
            image_models.Answer.model_validate(drawn.json())

    async def test_a_total_alone_is_known(self) -> None:
        async with whole_path() as path:
            plain = usage_of(await path.ask("Hello"))
            path.gemini.app.faults.order("usage-total")
            usage = usage_of(await path.ask("Hello"))
            assert usage == {**UNKNOWN, "total_tokens": plain["total_tokens"]}

    async def test_a_late_count_of_a_stream_is_known(self) -> None:
        async with whole_path() as path:
            plain = usage_of(await path.ask("Hello", way="stream"))
            path.gemini.app.faults.order("usage-late")
            assert usage_of(await path.ask("Hello", way="stream")) == plain

    async def test_one_image_without_a_count_makes_the_sum_unknown(self) -> None:
        async with whole_path() as path:
            drawn = await ask_for_images(path, "[[fault:usage-emptyx1]] A house.", 2)
            assert len(drawn.json()["images"]) == 2
            assert usage_of(drawn) == UNKNOWN

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("form", [*UNCOUNTED, "usage-total"])
    async def test_what_was_reserved_stays_booked(self, form: str, way: str) -> None:
        """Ten prompts of 4,000 tokens in one window under a limit of 20,000: Gemini refuses none of those that it gets."""
        limits = Limits(tpm=20_000)
        prompt = f"[[fault:{form}]]" + "the quick brown fox jumps over the lazy dog " * 360
        async with whole_path(upstream=Project(limits=limits), GEMINI_TPM=limits.tpm, LEDGER_WINDOW_SECONDS=30) as path:
            answers = [await path.ask(prompt, way=way, timeout_s=0.3) for _ in range(10)]
            served = [answer for answer in answers if answer.status == 200]
            assert 1 <= len(served) <= 5
            assert {answer.status for answer in answers} == {200, 429}
            assert path.gemini.stats()["refused"] == {}
            section = (await path.ledgers())["server"].sections[MODEL]
            assert section.debt_tokens == 0

    async def test_a_stream_that_the_caller_leaves_early_stays_booked(self) -> None:
        limits = Limits(tpm=20_000)
        prompt = "[[fault:usage-missing+words]] [[words:2000]] [[latency:0]]" + "the quick brown fox " * 800
        async with whole_path(upstream=Project(limits=limits), GEMINI_TPM=limits.tpm, LEDGER_WINDOW_SECONDS=30) as path:
            for _ in range(10):
                async with path.asking(prompt, way="stream", timeout_s=2) as task:
                    await asyncio.sleep(0.1)
                    task.cancel()
            await path.quiet()
            assert path.gemini.stats()["refused"] == {}


async def test_the_record_says_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    async with whole_path() as path:
        await path.ask("[[fault:usage-empty]]")
    records = [orjson.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (labels,) = [r["logging.googleapis.com/labels"] for r in records if "POST /chat" in r["message"]]
    assert {labels[name] for name in UNKNOWN} == {"unknown"}


class TestAnErrorInsideAnAnswer:
    @pytest.mark.parametrize("framing", ["array", "sse", "lines", "array+gzip"])
    async def test_a_stream_ends_with_it(self, framing: str) -> None:
        async with whole_path() as path:
            answer = await path.ask(f"[[fault:{framing}+late-429]] [[words:100]]", way="stream")
            *texts, (name, last) = answer.events()
            assert all(event["text"] for _, event in texts)
            assert (bool(texts), name, last["error"]["code"]) == (True, "error", "rate_limited")
            assert path.sent == 1

    @pytest.mark.parametrize("framing", ["array", "sse", "object", "bom+object"])
    async def test_a_unary_call_is_tried_again(self, framing: str) -> None:
        """As after a status of 429."""
        async with whole_path() as path:
            assert "Hello" in text_of(await path.ask(f"Hello [[fault:{framing}+late-429x1]]"))
            assert path.sent == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("fault", "header"),
    [
        ("version-unicode", MODEL),
        ("version-newline", MODEL),
        ("version-long", MODEL),
        ("version-null", MODEL),
    ],
)
async def test_a_model_version_is_fit_for_its_header(fault: str, header: str, way: str) -> None:
    async with whole_path() as path:
        answer = await path.ask(f"[[fault:{fault}]] Hello", way=way)
        assert "Hello" in text_of(answer)
        assert answer.headers["x-model-used"] == header
        assert "x-injected" not in answer.headers
        assert answer.headers["access-control-allow-origin"] == "*"
        assert path.sent == 1


async def test_a_repair_without_a_count_makes_the_sum_unknown() -> None:
    async with whole_path() as path:
        path.gemini.app.faults.order("wrong_json")
        path.gemini.app.faults.order("usage-missing")
        answer = await ask_for_object(path, "Name a thing.")
        assert (answer.status, path.sent) == (200, 2)
        assert usage_of(answer) == UNKNOWN
