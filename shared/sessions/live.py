"""The turns that this process answers or follows, and what it exchanges about them with other instances.

    a reader opens a turn    a compare-and-swap decides which instance generates the answer. Any other one follows: it asks for
                             the text with a mark, and reads the turn
    the last reader leaves   the answer may be completed for `grace_s`, and then ends as interrupted. At 0 it ends before the
                             reader's request does, because the instance's CPU may stop afterwards
    the server stops         answers that take longer than SHUTDOWN_S end as interrupted: their text is stored, and their readers
                             learn of it, before the process is killed
    every POLL_S             one read returns this instance's marks and the turns that it follows, however many streams are open

With a grace, an instance that follows counts as a reader. Without one it does not: the platform may stop the CPU of an instance
that has no requests, in the middle of an answer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

from shared.clock import elapsed_s
from shared.errors import GatewayError, LedgerUnavailable, Unavailable
from shared.sessions.feed import Feed
from shared.sessions.generating import Ask, Generating
from shared.sessions.marks import FOLLOW_MS
from shared.sessions.session import Answer
from shared.sessions.turn import Turn
from shared.sessions.turns import MAX_LOOKED_AT, Look, Turns

POLL_S = 0.5
STOP_S = 3.0
"""How long `stop` waits for another instance."""
SHUTDOWN_S = 3.0
"""The local server closes its connections after 5 s (serve.GRACE_S), and the platform kills an instance after 10 s."""
_REMARK_S = FOLLOW_MS / 2000
_LOOK_AGAIN_S = 1.0
"""How often an answer without readers here is checked while another instance may follow it."""


class _Live:
    """One turn that has readers here. `generating` is None while another instance generates it."""

    def __init__(self, turn: str, on_left: Callable[[_Live], Awaitable[None]]) -> None:
        self.feed = Feed(turn, lambda: on_left(self))
        self.task: asyncio.Task[None]
        self.generating: Generating | None = None
        self.timer: asyncio.TimerHandle | None = None
        """Ends the grace."""


class _Following:
    """A turn that another instance generates. `feed` gets its text; None if only its end is awaited."""

    def __init__(self, name: str, turn: Turn, feed: Feed | None = None) -> None:
        self.name, self.turn, self.feed = name, turn, feed
        self.mark_at_s = self.looked_s = 0.0
        """When the mark for the other instance is due, and when the turn was read last."""
        self.ended: asyncio.Future[Turn | None] = asyncio.get_running_loop().create_future()
        """The turn, once that instance no longer generates it; None if it was deleted."""

    def saw(self, turn: Turn | None, now_s: float) -> None:
        self.looked_s = now_s
        if turn is None or (turn.state, turn.fence) != ("streaming", self.turn.fence):
            if not self.ended.done():
                self.ended.set_result(turn)
        elif self.feed is not None:
            self.feed.extend_to(turn.text)


class LiveTurns:
    """`whole_answer` returns the answer of a turn that has ended, as the session keeps it."""

    def __init__(
        self,
        turns: Turns,
        whole_answer: Callable[[str, Turn], Awaitable[Answer]],
        *,
        grace_s: float,
        log: Callable[[Exception], None],
    ) -> None:
        self.instance = secrets.token_hex(16)
        self.turns = turns
        self._whole_answer = whole_answer
        self._grace_s = grace_s
        self._log = log
        self._live: dict[str, _Live] = {}
        self._following: set[_Following] = set()
        self._poller: asyncio.Task[None] | None = None
        self._marker: asyncio.Task[None] | None = None

    def open(self, turn: str, ask: Ask) -> Feed:
        """The answer of a turn. It is generated only if it is still pending, and then by one instance."""
        live = self._live.get(turn)
        if live is None:
            live = self._live[turn] = _Live(turn, self._left)
            live.task = asyncio.create_task(self._run(live, ask))
            self._keep_polling()
        return live.feed

    def dispatched_s(self, turn: str) -> float | None:
        """When the turn's request was sent to Gemini, if this instance generates its answer."""
        live = self._live.get(turn)
        return None if live is None or live.generating is None else live.generating.dispatched_s

    async def stop(self, name: str, turn: Turn) -> Turn:
        """Stops a turn that streams, wherever it does. The turn as it reads when it has ended, or after STOP_S."""
        live = self._live.get(name)
        # The turn may only be opened here, while another instance streams it.
        if live is not None and live.generating is not None and live.generating.fence == turn.fence:
            live.generating.end_early("stopped")
            await asyncio.wait([live.task], timeout=STOP_S)
            turn = await self.turns.read(name)
        if turn.state == "streaming" and turn.instance != self.instance:
            await self.turns.mark_stop(turn)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._end_of(_Following(name, turn))
            turn = await self.turns.read(name)
        return turn

    def server_stops(self) -> None:
        asyncio.get_running_loop().call_later(SHUTDOWN_S, self._end_all)

    async def aclose(self) -> None:
        """Ends all turns here, and stores what they have."""
        self._end_all()
        if lives := list(self._live.values()):
            _, late = await asyncio.wait([live.task for live in lives], timeout=STOP_S)
            for unstored in late:
                # The store cannot be reached.
                unstored.cancel()
        for task in (self._poller, self._marker):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    # -- one turn ------------------------------------------------------------------------------------------------------

    async def _run(self, live: _Live, ask: Ask) -> None:
        feed = live.feed
        try:
            await self._start(live, ask)
        except Exception as error:  # noqa: BLE001 - its readers get it; without readers it is logged
            if not feed.readers and not isinstance(error, GatewayError):
                self._log(error)
            feed.fail(error)
            if isinstance(error, LedgerUnavailable) and live.generating is not None:
                await live.generating.give_back()
        finally:
            if self._live.get(feed.turn) is live:
                del self._live[feed.turn]

    async def _start(self, live: _Live, ask: Ask) -> None:
        name, fence = live.feed.turn, secrets.token_hex(16)
        live.generating = generating = Generating(self.turns, live.feed, ask, fence, self._log)
        turn = await self.turns.start(name, self.instance, fence, ask.lasts_ms, ticket=ask.ticket)
        while turn.state == "streaming" and turn.fence != fence:
            live.generating = None
            if generating.ends_early:
                raise Unavailable(
                    "This stream was left or stopped while it was opened. Open it again.", retry_after_s=1.0
                )
            turn = await self._follow(live, turn)
            if turn.state == "pending" and turn.error is None:
                # The readers of the other instance left before it sent a request to Gemini.
                live.generating = generating
                turn = await self.turns.start(name, self.instance, fence, ask.lasts_ms)
        if turn.state == "streaming":
            await generating.run(turn)
        elif turn.state == "pending":
            live.feed.end(Answer("interrupted", "", error=turn.error))
        else:
            after = await self.turns.settle(name, turn) if turn.state == "interrupted" else turn
            live.feed.end(await self._whole_answer(name, after))

    async def _follow(self, live: _Live, turn: Turn) -> Turn:
        """Returns the turn when the other instance no longer generates it."""
        live.feed.extend_to(turn.text)
        after = await self._end_of(_Following(live.feed.turn, turn, live.feed))
        return after if after is not None else await self.turns.read(live.feed.turn)

    async def _end_of(self, following: _Following) -> Turn | None:
        self._following.add(following)
        self._keep_polling()
        self._mark_due()
        try:
            return await following.ended
        finally:
            self._following.discard(following)

    async def _left(self, live: _Live) -> None:
        """The last reader has left before the end."""
        if live.generating is None:
            self._end(live)
        elif self._grace_s:
            self._wait(live, self._grace_s)
        else:
            self._end(live)
            await asyncio.shield(live.task)

    def _wait(self, live: _Live, for_s: float) -> None:
        if live.timer is not None:
            live.timer.cancel()
        live.timer = asyncio.get_running_loop().call_later(for_s, self._after_grace, live)

    def _after_grace(self, live: _Live) -> None:
        generating = live.generating
        if live.feed.over or live.feed.readers:
            return
        if generating is not None and generating.is_followed:
            self._wait(live, _LOOK_AGAIN_S)
        else:
            self._end(live)

    def _end_all(self) -> None:
        for live in list(self._live.values()):
            if live.generating is None:
                # Its answer goes on elsewhere: a reconnect gets the rest from there.
                live.feed.fail(Unavailable("This instance is shutting down. Reconnect to get the rest of the answer."))
            self._end(live)

    def _end(self, live: _Live) -> None:
        if live.generating is not None:
            live.generating.end_early("interrupted")
        else:
            if self._live.get(live.feed.turn) is live:
                del self._live[live.feed.turn]
            live.task.cancel()

    # -- between instances ---------------------------------------------------------------------------------------------

    def _keep_polling(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while self._live or self._following:
            await asyncio.sleep(POLL_S)
            lives = self._live.values()
            generating = {live.generating.fence: live.generating for live in lives if live.generating is not None}
            if generating or self._following:
                await self._exchange(generating, list(self._following))

    async def _exchange(self, generating: dict[str, Generating], following: list[_Following]) -> None:
        # Those that were not looked at for longest, if there are more than one look takes.
        longest = sorted(following, key=lambda one: one.looked_s)
        names = list(dict.fromkeys(one.name for one in longest))[:MAX_LOOKED_AT]
        try:
            look = await self.turns.look(self.instance if generating else None, names)
            self._apply(look, generating, following)
            self._mark_due()
            await asyncio.gather(*(one.publish_if_due() for one in generating.values()))
        except LedgerUnavailable:
            # The next look is soon. Readers wait for it, until the deadline of their stream.
            return
        except Exception as error:  # noqa: BLE001 - logged; the streams of this process need the next look
            self._log(error)

    def _mark_due(self) -> None:
        if self._marker is None or self._marker.done():
            self._marker = asyncio.create_task(self._mark())

    async def _mark(self) -> None:
        """Asks the other instances for the text of what is followed here: one write for each of them, however many turns it
        generates, since all of these are in one document."""
        while due := [one for one in self._following if one.feed is not None and one.mark_at_s <= elapsed_s()]:
            by_instance: dict[str, list[_Following]] = {}
            for one in due:
                one.mark_at_s = elapsed_s() + _REMARK_S
                by_instance.setdefault(one.turn.instance, []).append(one)
            for instance, ones in by_instance.items():
                try:
                    await self.turns.mark_follow(instance, [one.turn.fence for one in ones])
                except LedgerUnavailable:
                    for one in ones:
                        one.mark_at_s = elapsed_s() + POLL_S
                    return

    def _apply(self, look: Look, generating: dict[str, Generating], following: list[_Following]) -> None:
        now_s = elapsed_s()
        for fence in look.marks.stop.keys() & generating.keys():
            generating[fence].end_early("stopped")
        for fence in look.marks.follow.keys() & generating.keys():
            generating[fence].followed_until_s = now_s + (look.marks.follow[fence] - look.now_ms) / 1000
        for one in following:
            if one.name in look.turns:
                one.saw(look.turns[one.name], now_s)
