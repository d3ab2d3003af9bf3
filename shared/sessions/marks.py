"""What other instances ask of the one that generates an answer: `marks/<instance>`. Pure.

The instance only reads its marks, and only while it generates: others write them, and each mark expires by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

STOP_MS = 60_000
FOLLOW_MS = 10_000
"""An instance that follows an answer repeats its mark before this time has passed. Meanwhile the answer has a reader."""
MAX_MARKS = 1000
"""Of one kind. An instance generates fewer answers at once; beyond it, the marks that expire first are dropped."""


class Marks(NamedTuple):
    """By a turn's fence, until when (the store's time) the mark applies. The fence is of one generation, so that a mark never
    applies to a later one of the same turn."""

    stop: dict[str, int]
    """Turns that somebody wants stopped."""
    follow: dict[str, int]
    """Turns whose text another instance reads: it is published while it grows."""

    def pack(self) -> bytes:
        return orjson.dumps(self._asdict())

    @classmethod
    def unpack(cls, value: bytes | None) -> Marks:
        return cls({}, {}) if value is None else cls(**orjson.loads(value))

    @property
    def expires_ms(self) -> int:
        return max([*self.stop.values(), *self.follow.values()], default=0)


def marks_key(instance: str) -> str:
    return f"marks/{instance}"


def with_stop(marks: Marks, fence: str, now_ms: int) -> Marks:
    return marks._replace(stop=_with(marks.stop, [fence], now_ms, STOP_MS))


def with_follow(marks: Marks, fences: Sequence[str], now_ms: int) -> Marks:
    return marks._replace(follow=_with(marks.follow, fences, now_ms, FOLLOW_MS))


def _with(marks: dict[str, int], fences: Sequence[str], now_ms: int, lasts_ms: int) -> dict[str, int]:
    live = {fence: until_ms for fence, until_ms in marks.items() if until_ms > now_ms}
    live.update(dict.fromkeys(fences, now_ms + lasts_ms))
    latest = sorted(live, key=live.__getitem__)[-MAX_MARKS:]
    return {fence: live[fence] for fence in latest}
