"""An upstream that asks the assistant of Gemini Enterprise. `enterprise` and `enterprise_session` say how it is reached.

Files of a question are uploaded to a new session before the question is asked, so that no other caller's question meets them,
or the history of this one. The uploads take no permit: the permit is checked right before the question. If it has lapsed by then,
the session is kept for the next attempt with the same request.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import orjson

from shared.clock import elapsed_s
from shared.gemini.backend import Backend, Prepared
from shared.gemini.client import GeminiClient
from shared.gemini.enterprise_format import AssistFrames, Question, answer_files, missing_ability, question_of
from shared.gemini.errors import UpstreamFailure
from shared.gemini.models import makes_image, says_missing
from shared.gemini.upstream import Exchange
from shared.generation import JsonObject
from shared.secret import Secret

MAX_UNUSED_SESSIONS = 256
UNUSED_SESSION_S = 600.0
_VERBS = ("generateContent", "streamGenerateContent")


class Session(NamedTuple):
    """A session in which nothing was asked yet, and the ids of its files. `name` is "" if the question makes one."""

    name: str = ""
    file_ids: tuple[str, ...] = ()


class Service(Protocol):
    """How one kind of account reaches the assistant. Methods raise UpstreamFailure; `deadline_s` is elapsed time."""

    kind: str
    image_output: bool

    async def open(self, exchange: Exchange, question: Question, deadline_s: float) -> Session:
        """A session with the question's files."""
        ...

    async def prepare(self, exchange: Exchange, question: Question, session: Session, deadline_s: float) -> Prepared:
        """The question as HTTP."""
        ...

    async def fetch(self, exchange: Exchange, session: Session, file: JsonObject, deadline_s: float) -> JsonObject:
        """The native part for a file that the assistant made ({"mimeType", "fileUri": its id})."""
        ...

    def failure(self, failure: UpstreamFailure, exchange: Exchange, secret: Secret) -> UpstreamFailure: ...

    async def aclose(self) -> None: ...


class _Asking:
    """One exchange. It is called in place of the exchange's `before_write`."""

    def __init__(self, before_write: Callable[[], None] | None) -> None:
        self._before_write = before_write
        self.session: Session | None = None
        self.sent = False

    def __call__(self) -> None:
        self.sent = False
        if self._before_write is not None:
            self._before_write()
        self.sent = True


class _AssistBackend(Backend):
    """Prepares the exchanges of `Assistant`."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._unused: OrderedDict[bytes, tuple[float, Session]] = OrderedDict()

    async def prepare(self, exchange: Exchange) -> Prepared:
        deadline_s = elapsed_s() + exchange.timeout_s
        if exchange.verb not in _VERBS:
            raise UpstreamFailure("bad_request", f"Gemini Enterprise has no {exchange.verb}.", written=False)
        message = exchange.message if exchange.message is not None else orjson.loads(exchange.body)
        missing = missing_ability(message, image_output=self.service.image_output)
        if missing is not None:
            text = f"An account of the kind {self.service.kind} cannot do this: {missing}. Leave it out."
            raise UpstreamFailure("bad_request", text, written=False)
        question = question_of(message, makes_image=self.service.image_output and makes_image(exchange.model, message))
        asking = exchange.before_write
        assert isinstance(asking, _Asking)
        session = self._take(exchange) or await self.service.open(exchange, question, deadline_s)
        asking.session = session
        prepared = await self.service.prepare(exchange, question, session, deadline_s)
        return prepared._replace(translate=AssistFrames(thoughts=question.thoughts))

    def failure(self, failure: UpstreamFailure, exchange: Exchange, secret: Secret) -> UpstreamFailure:
        if failure.status == 400 and says_missing(failure.message):
            return UpstreamFailure("not_found", failure.message, status=404, consumer=failure.consumer)
        return self.service.failure(failure, exchange, secret)

    def keep(self, exchange: Exchange, session: Session) -> None:
        """`session` was opened for the exchange, and nothing was asked in it."""
        if session.name:
            self._unused[_name(exchange)] = (elapsed_s() + UNUSED_SESSION_S, session)
            if len(self._unused) > MAX_UNUSED_SESSIONS:
                self._unused.popitem(last=False)

    def _take(self, exchange: Exchange) -> Session | None:
        if not self._unused:
            return None
        until_s, session = self._unused.pop(_name(exchange), (0.0, Session()))
        return session if elapsed_s() < until_s else None


class Assistant:
    """Answers with the assistant of Gemini Enterprise. Bound to the event loop of its first call."""

    def __init__(self, service: Service, client_of: Callable[[Backend], GeminiClient]) -> None:
        self._service = service
        self._backend = _AssistBackend(service)
        self._client = client_of(self._backend)

    async def generate(self, exchange: Exchange) -> JsonObject:
        """As Upstream.generate."""
        fetch = self._fetch(exchange)
        with self._asked(exchange) as (asked, asking):
            answer = await self._client.generate(asked)
            await fetch(answer, asking)
            return answer

    def stream(self, exchange: Exchange) -> AbstractAsyncContextManager[AsyncIterator[JsonObject]]:
        """As Upstream.stream."""
        return self._stream(exchange)

    @asynccontextmanager
    async def _stream(self, exchange: Exchange) -> AsyncIterator[AsyncIterator[JsonObject]]:
        fetch = self._fetch(exchange)
        with self._asked(exchange) as (asked, asking):
            async with self._client.stream(asked) as frames:
                yield _Frames(frames, partial(fetch, asking=asking))

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._client.aclose()
        await self._service.aclose()

    @contextmanager
    def _asked(self, exchange: Exchange) -> Iterator[tuple[Exchange, _Asking]]:
        """The exchange for the client. Keeps the session if the question was not sent."""
        asking = _Asking(exchange.before_write)
        try:
            yield replace(exchange, before_write=asking), asking
        finally:
            if asking.session is not None and not asking.sent:
                self._backend.keep(exchange, asking.session)

    def _fetch(self, exchange: Exchange) -> Any:
        """A function that puts the content of its files into a frame, until the exchange's deadline."""
        deadline_s = elapsed_s() + exchange.timeout_s

        async def fetch(frame: JsonObject, asking: _Asking) -> None:
            for part in answer_files(frame):
                fetched = await self._service.fetch(exchange, asking.session or Session(), part["fileData"], deadline_s)
                part.clear()
                part.update(fetched)

        return fetch


class _Frames(AsyncIterator[JsonObject]):
    def __init__(self, frames: AsyncIterator[JsonObject], fetch: Callable[[JsonObject], Any]) -> None:
        self._frames, self._fetch = frames, fetch

    async def __anext__(self) -> JsonObject:
        frame = await anext(self._frames)
        await self._fetch(frame)
        return frame


def _name(exchange: Exchange) -> bytes:
    """The same for the same request to the same account."""
    hashed = hashlib.sha256(exchange.credential.fingerprint("assistant").encode())
    hashed.update(exchange.model.encode())
    hashed.update(exchange.body)
    return hashed.digest()
