"""One answer that this process generates: Gemini's frames become text. Its end is stored before its readers get it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.clock import elapsed_s
from shared.errors import GatewayError, LedgerUnavailable, PromptBlocked, Unavailable, UpstreamFailed
from shared.gemini import wire
from shared.gemini.answer_text import missing_text, reject_blocked_prompt
from shared.generation import UNKNOWN_USAGE, JsonObject, Timeline
from shared.sessions.feed import Feed
from shared.sessions.session import Answer
from shared.sessions.turn import MAX_ANSWER_BYTES, Turn
from shared.sessions.turns import Turns

if TYPE_CHECKING:
    from shared.gateway.stream_reply import StreamReply

MARGIN_S = 5.0
"""How long after the generation's own deadline its end may still be stored."""
PUBLISH_EVERY_S = 1.0
_TRIES = 3
_PAUSE_S, _LATER_S = 0.5, 2.0
_NOT_STORED = "The answer could not be stored in the session, because the store cannot be reached. Keep its text."


@dataclass(frozen=True, slots=True)
class Ask:
    """What an answer is generated with."""

    reply: Callable[[Turn], AbstractAsyncContextManager[StreamReply]]
    deadline_s: float
    """In elapsed time; the generation ends by then."""
    timeline: Timeline
    ticket: str = ""
    """The fingerprint of the ticket that opens the turn; "" if a session's caller opens it."""

    @property
    def lasts_ms(self) -> int:
        return int((max(0.0, self.deadline_s - elapsed_s()) + MARGIN_S) * 1000)


class Generating:
    """`fence` is what the turn's writes are checked with."""

    def __init__(self, turns: Turns, feed: Feed, ask: Ask, fence: str, log: Callable[[Exception], None]) -> None:
        self._log = log
        self._turns, self._feed, self._ask, self.fence = turns, feed, ask, fence
        self._asked: Literal["stopped", "interrupted"] | None = None
        """How the answer ends, if `end_early` was called."""
        self._upstream: asyncio.Task[None] | None = None
        self._reply: StreamReply | None = None
        self._reason: str | None = None
        self._after_cr = False
        self._published = 0
        """Characters that the store has."""
        self._published_s = 0.0
        self.followed_until_s = 0.0
        """Until when another instance reads this answer, in elapsed time."""

    @property
    def dispatched_s(self) -> float | None:
        return self._ask.timeline.dispatched_s

    @property
    def is_followed(self) -> bool:
        return elapsed_s() < self.followed_until_s

    @property
    def ends_early(self) -> bool:
        return self._asked is not None

    def end_early(self, how: Literal["stopped", "interrupted"]) -> None:
        """Ends the exchange with Gemini. The text so far is kept."""
        self._asked = self._asked or how
        if self._upstream is not None:
            self._upstream.cancel()

    async def run(self, turn: Turn) -> None:
        """Generates the answer of `turn`, which this instance has started. Returns when its end is stored and sent."""
        failure: Exception | None = None
        if self._asked is None:
            self._upstream = upstream = asyncio.create_task(self._read(turn))
            try:
                await asyncio.wait([upstream])
            finally:
                upstream.cancel()
            if upstream.cancelled():
                self._asked = self._asked or "interrupted"
            else:
                error = upstream.exception()
                failure = error if isinstance(error, Exception) else None
                self._asked = None
        await self._store_end(turn, failure)

    async def give_back(self) -> None:
        """After a start that failed, and may have been applied: makes the turn pending again if it is this instance's, so that
        nobody waits for an answer that is not generated."""
        await self._stored(lambda: self._turns.release(self._feed.turn, self.fence, None), lambda: None)

    async def publish_if_due(self) -> None:
        """Stores the text so far, at most once a second, while another instance reads it."""
        now_s, feed = elapsed_s(), self._feed
        if not self.is_followed or feed.over or feed.length == self._published:
            return
        if now_s < self._published_s + PUBLISH_EVERY_S:
            return
        self._published, self._published_s = feed.length, now_s
        if not await self._turns.publish(feed.turn, self.fence, feed.text):
            # Another instance has ended the turn, for example because this one was suspended beyond the deadline.
            self.end_early("interrupted")

    async def _read(self, turn: Turn) -> None:
        """Raises GatewayError."""
        feed = self._feed
        async with self._ask.reply(turn) as reply:
            self._reply = reply
            async for frame in reply:
                reject_blocked_prompt(frame)
                self._reason = wire.finish_reason(frame) or self._reason
                feed.add(self._with_line_feeds(wire.text_of(frame)))
                if feed.size_bytes > MAX_ANSWER_BYTES:
                    raise UpstreamFailed(
                        f"The answer exceeds {MAX_ANSWER_BYTES // 1024} KB, the most that a session keeps. The text so far is "
                        "kept; ask for shorter answers."
                    )
        if not feed.length:
            raise missing_text(self._reason)

    def _with_line_feeds(self, text: str) -> str:
        """The next text with each line end as a line feed: server-sent events have no others, and what is stored is what was
        streamed. The two characters of a line end may come in two frames."""
        if "\r" not in text and not self._after_cr:
            return text
        if self._after_cr and text.startswith("\n"):
            text = text[1:]
            self._after_cr = False
        if text:
            self._after_cr = text.endswith("\r")
        return text.replace("\r\n", "\n").replace("\r", "\n")

    async def _store_end(self, turn: Turn, failure: Exception | None) -> None:
        feed, error = self._feed, self._error_of(failure)
        if not feed.length and self._can_be_opened_again(failure):
            told = failure or Unavailable("The last reader of this answer had left. Open the stream again.")

            async def release() -> None:
                await self._turns.release(feed.turn, self.fence, error)
                self._failed(told)

            await self._stored(release, lambda: self._failed(told))
            return
        reply = self._reply
        answer = Answer(
            self._asked or ("done" if failure is None else "interrupted"),
            feed.text,
            None if reply is None else reply.head.model_used,
            self._reason,
            UNKNOWN_USAGE if reply is None else reply.usage,
            error=error,
        )

        async def end() -> None:
            stored = answer
            if not await self._turns.end(feed.turn, turn, self.fence, answer):
                # Another instance has ended the turn, and what it stored counts.
                stored = answer._replace(state=(await self._turns.read(feed.turn)).state)
            if failure is not None:
                self._failed(failure)
            elif not feed.over:
                feed.end(stored)

        await self._stored(end, lambda: feed.fail(LedgerUnavailable(_NOT_STORED, retry_after_s=1.0)))

    def _failed(self, failure: Exception) -> None:
        if self._feed.over:
            return
        if not self._feed.readers and not isinstance(failure, GatewayError):
            self._log(failure)
        self._feed.fail(failure, ends_turn=True)

    def _error_of(self, failure: Exception | None) -> JsonObject | None:
        """What the store keeps of the error that ended the generation."""
        if failure is None:
            return None
        error = failure if isinstance(failure, GatewayError) else GatewayError("The gateway failed.")
        return {"code": error.code, "message": error.message, "status": error.status}

    def _can_be_opened_again(self, failure: Exception | None) -> bool:
        """Whether nothing is lost if the turn is pending again: there is no text, and either an error that its readers get, or
        its readers left before a request was sent to Gemini. An answer that Gemini ended without text was paid for, and a
        page that opens the turn again would pay for the same once more."""
        if failure is None:
            return self._asked == "interrupted" and not self._ask.timeline.attempts
        return self._reason is None and not isinstance(failure, PromptBlocked)

    async def _stored(self, write: Callable[[], Awaitable[object]], tell: Callable[[], None]) -> None:
        """The answer was paid for, so it is written when the store can be reached again, until the turn's deadline. The readers
        wait for a few tries only: then `tell` ends their feed."""
        tries = 0
        while True:
            try:
                await write()
                return
            except LedgerUnavailable:
                tries += 1
            is_late = elapsed_s() >= self._ask.deadline_s + MARGIN_S
            if not self._feed.over and (is_late or tries == _TRIES):
                tell()
            if is_late:
                return
            await asyncio.sleep(_PAUSE_S if tries < _TRIES else _LATER_S)
