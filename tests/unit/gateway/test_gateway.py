"""The reply that a stream's caller reads: what it adds to Gemini's frames."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.gateway.gateway import BACKOFF_S, PRESSURE_DELAY_S, _pause_s
from shared.gateway.stream_reply import StreamReply
from shared.gemini import wire
from shared.gemini.errors import Kind, UpstreamFailure
from shared.generation import JsonObject, Usage


def counted(**counts: int) -> JsonObject:
    return {"usageMetadata": counts}


async def test_a_count_that_the_last_frame_does_not_repeat_is_kept() -> None:
    async def frames() -> AsyncIterator[JsonObject]:
        yield counted(promptTokenCount=8, thoughtsTokenCount=50, totalTokenCount=58)
        yield counted(promptTokenCount=8, candidatesTokenCount=3, totalTokenCount=61)

    attempts = SimpleNamespace(
        reply=lambda _, first: SimpleNamespace(usage=wire.usage(first)), measure=lambda: None, complete=lambda _: None
    )
    first = counted(promptTokenCount=8, totalTokenCount=8)
    reply = StreamReply(cast(Any, attempts), cast(Any, None), first, frames())
    passed_on = [frame async for frame in reply]
    assert len(passed_on) == 3
    assert reply.usage == Usage(8, 3, 50, 61)


class TestPauses:
    @pytest.mark.parametrize("kind", ["overloaded", "server", "deadline", "pressure"])
    def test_googles_delay_is_never_cut_short(self, kind: Kind) -> None:
        failure = UpstreamFailure(kind, "x", retry_delay_s=30.0)
        pauses = [_pause_s(failure, 1, elsewhere=False) for _ in range(100)]
        assert min(pauses) >= 30 and max(pauses) <= 30 + BACKOFF_S
        assert len(set(pauses)) > 1

    def test_delay_of_one_project_does_not_hold_up_another(self) -> None:
        failure = UpstreamFailure("pressure", "x", retry_delay_s=30.0)
        assert all(_pause_s(failure, 1, elsewhere=True) <= PRESSURE_DELAY_S for _ in range(100))

    def test_without_a_delay_it_grows_with_the_tries(self) -> None:
        failure = UpstreamFailure("overloaded", "x")
        longest = [max(_pause_s(failure, tries, elsewhere=False) for _ in range(300)) for tries in (1, 2, 3)]
        assert longest[0] < longest[1] < longest[2] <= BACKOFF_S * 8
