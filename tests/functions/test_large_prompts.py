"""What becomes of prompts that are large, and of those that turn out larger than was reserved for them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest

from shared.emulator.config import Limits, Project
from shared.emulator.tokens import count_text
from shared.gemini import counting
from shared.gemini.tokens import estimate_input_tokens
from tests.support.whole_path import MODEL, WAYS, WholePath, text_of, told, whole_path

TPM = 40_000
WORDS = "the quick brown fox jumps over the lazy dog "
LARGE = WORDS * 1_300
"""57 KB: estimated at 31,000 tokens, and about half of that to Gemini."""
VERY_LARGE = WORDS * 2_000
"""88 KB: estimated above the whole limit, and within it to Gemini."""
TOO_LARGE = WORDS * 6_000


def limited(**more: Any) -> Any:
    """The gateway and Gemini agree on the limit."""
    return whole_path(upstream=Project(limits=Limits(tpm=TPM)), GEMINI_TPM=TPM, **more)


def asked_to_count(path: WholePath) -> int:
    return int(path.gemini.stats()["by_method"].get("countTokens", 0))


@pytest.mark.parametrize("way", WAYS)
async def test_prompt_above_the_limit_by_estimate_is_counted(way: str) -> None:
    """Gemini's count fits, so the prompt is answered."""
    async with limited() as path:
        text_of(await path.ask(VERY_LARGE, way=way))
        assert asked_to_count(path) == 1


async def test_prompt_above_the_limit_by_count_is_rejected() -> None:
    async with limited() as path:
        answer = await path.ask(TOO_LARGE)
        assert told(answer) == (400, "cost_exceeds_limit")
        assert str(count_text(TOO_LARGE)) in answer.error["message"]
        assert path.sent == 1, "the count alone"


async def test_two_counted_prompts_run_together() -> None:
    """By their estimates only one at a time would be."""
    async with limited() as path:
        await asyncio.gather(*(path.ask(f"[[latency:500]]{one} {LARGE}") for one in range(2)))
        assert path.gemini.stats()["projects"]["server"]["max_open"] == 2


async def test_a_small_prompt_is_never_counted() -> None:
    async with limited() as path:
        await asyncio.gather(*(path.ask(WORDS * 100) for _ in range(5)))
        assert asked_to_count(path) == 0


async def test_where_tokens_are_not_limited_nothing_is_counted() -> None:
    async with whole_path(GEMINI_TIER="custom", GEMINI_RPM=100, GEMINI_TPM="unlimited", GEMINI_RPD="unlimited") as path:
        text_of(await path.ask(TOO_LARGE))
        assert asked_to_count(path) == 0


async def test_when_the_count_fails_the_estimate_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    async with limited() as path:
        monkeypatch.setattr(counting, "TIMEOUT_S", 0.0)
        text_of(await path.ask(LARGE))
        assert told(await path.ask(VERY_LARGE)) == (400, "cost_exceeds_limit")


@pytest.mark.parametrize(
    ("estimate", "limits", "worth"),
    [
        (8_191, [25_000], False),
        (8_192, [25_000], True),
        (99_999, [1_000_000], False),
        (100_000, [1_000_000], True),
        (100_000, [None, 1_000_000], True),
        (10**9, [None], False),
    ],
)
def test_only_large_prompts_are_counted(estimate: int, limits: list[int | None], worth: bool) -> None:
    assert counting.worth_counting(estimate, limits) is worth


def test_a_small_prompt_reads_no_limits() -> None:
    """A pool may have hundreds of accounts, and most requests are small."""
    limits = iter([25_000])
    assert not counting.worth_counting(100, limits)
    assert next(limits) == 25_000


# -- either spelling -------------------------------------------------------------------------------------------------

YOUTUBE = "https://www.youtube.com/watch?v=xxxxxxxxxxx"
SPELLINGS = {
    "snake_case": {"file_data": {"mime_type": "video/mp4", "file_uri": YOUTUBE}},
    "camelCase": {"fileData": {"mimeType": "video/mp4", "fileUri": YOUTUBE}},
    "both": {"file_data": {"mimeType": "video/mp4", "file_uri": YOUTUBE}},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("in_history", [False, True], ids=["contents", "history"])
async def test_six_videos_at_once_stay_within_the_limit(spelling: str, in_history: bool) -> None:
    """Each counts as 15,780 tokens and more: three have room in a window of 60,000, and three wait for the next."""
    parts = [SPELLINGS[spelling], {"text": "Summarise."}]
    native = {"contents": [{"role": "user", "parts": parts}]}
    history = {"prompt": "Summarise.", "history": [{"role": "user", "parts": parts}]}
    content = orjson.dumps(history if in_history else native)
    limits = Limits(tpm=60_000)
    settings = {"GEMINI_TPM": limits.tpm, "LEDGER_WINDOW_SECONDS": 2, "REQUEST_TIMEOUT_SECONDS": 20}
    async with whole_path(upstream=Project(limits=limits), **settings) as path:
        answers = await asyncio.gather(*(path.send("POST", "/chat", content) for _ in range(6)))
        assert [answer.status for answer in answers] == [200] * 6
        assert path.gemini.stats()["refused"] == {}
        counted = [answer.json()["usage"]["prompt_tokens"] for answer in answers]
        assert min(counted) > 15_000
        assert await debt(path) == 0


# -- more than was reserved ------------------------------------------------------------------------------------------

VIDEO = {
    "contents": [
        {"role": "user", "parts": [{"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}}, {"text": "What?"}]}
    ],
    "generation_config": {"media_resolution": "MEDIA_RESOLUTION_LOW"},
}
NATIVE = {"contents": VIDEO["contents"], "generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW"}}
"""A minute at low resolution: by Gemini's documentation about 6,000 tokens; the offline Gemini counts it as any other."""


async def debt(path: WholePath) -> int:
    return (await path.ledgers())["server"].sections[MODEL].debt_tokens


async def ask_video(path: WholePath) -> Any:
    return await path.send("POST", "/chat", orjson.dumps(VIDEO))


async def test_tokens_beyond_the_reservation_are_debt() -> None:
    async with whole_path() as path:
        counted = []
        for asked in range(1, 4):
            answer = (await ask_video(path)).json()
            counted.append(answer["usage"]["prompt_tokens"])
            assert await debt(path) == sum(counted) - asked * estimate_input_tokens(NATIVE)
        assert await debt(path) > 0


async def test_debt_is_paid_by_those_that_come_after_it() -> None:
    """By its estimate a video takes 6,100 of 20,000 tokens a window, and the next fits beside it. It took 15,800: the next
    waits until they are out of the window, and Gemini refuses nothing."""
    limits = Limits(tpm=20_000)
    async with whole_path(upstream=Project(limits=limits), GEMINI_TPM=limits.tpm, LEDGER_WINDOW_SECONDS=2) as path:
        answer = await ask_video(path)
        began_s = time.monotonic()
        assert answer.status == 200
        assert 2 * estimate_input_tokens(NATIVE) < 20_000 < estimate_input_tokens(NATIVE) + 15_780
        assert (await ask_video(path)).status == 200
        assert time.monotonic() - began_s >= 1.9
        assert path.gemini.stats()["refused"] == {}
