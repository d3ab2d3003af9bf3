"""A request to the offline Gemini: find the method, validate, count, admit, answer, in Google's order of checks.

Key, then model, then body, then quota (where Google checks quota relative to the body is not known).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from aiohttp import web

from . import (
    answers,
    embeddings,
    error_faults,
    errors,
    faults,
    files,
    frames,
    images,
    models,
    oauth,
    operator_api,
    rejections,
    replies,
    tokens,
    vertex,
)
from .assist import Assist, Work
from .auth import authenticate
from .config import EmulatorConfig
from .directed import deadline_s, directives_of, fail
from .errors import GoogleError
from .exchange import Aborted, Exchange
from .faults import Directives, Fault, Faults
from .model_pages import page
from .models import Model
from .oauth import TokenServer
from .server import Request, Server
from .signatures import Backend
from .stats import ProjectRecord, Stats
from .transcode import read_message
from .validate import check_contents, check_generate

_PATH = re.compile(r"/(v1|v1beta)/models(?:/([^/:]+)(?::(\w+))?)?")
_GENERATING = frozenset({"generateContent", "streamGenerateContent"})
_ANSWERING = frozenset({models.TEXT, models.IMAGE})


@dataclass(frozen=True, slots=True)
class _Call:
    """`method` is the verb of the path, or GetModel or ListModels. `place`: the project and location of a call to Vertex AI."""

    version: str
    model_id: str
    method: str
    sse: bool
    place: tuple[str, str] | None = None

    @property
    def backend(self) -> Backend:
        return "gemini" if self.place is None else "vertex"


class App:
    """The application without the socket: `handle` answers a request, `server()` creates the aiohttp server around it.

    `wall_clock` returns Unix time in seconds, for the Pacific day.
    """

    def __init__(self, config: EmulatorConfig, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._wall_clock = wall_clock
        self.stats = Stats(config)
        self.tokens = TokenServer(config, self.stats, wall_clock)
        self.faults = Faults()
        self.files = files.Files(wall_clock)
        self.seeds = images.Seeds()
        self.assist = Assist(self.stats, self._assist, tokens=self.tokens, wall_clock=wall_clock)

    def server(self) -> Server:
        """Call it on the event loop that will serve."""
        return Server(self.handle, self._config.max_body_bytes)

    async def handle(self, request: Request) -> web.StreamResponse:
        if (stored := files.PATH.fullmatch(request.path)) is not None:
            return await self._serve_files(request, stored[2], stored[3])
        match = _PATH.fullmatch(request.path)
        if match is None and request.method == "POST":
            if request.path == oauth.PATH:
                return await self.tokens.answer(request)
            if place := vertex.PATH.fullmatch(request.path):
                version, project, location, model_id, verb = place.groups()
                sse = verb == "streamGenerateContent" and request.query.get("alt") == "sse"
                call = _Call(version, model_id, verb, sse, (project, location))
                return await self._serve(request, partial(self._answer, call=call), sse=sse)
        if match is None:
            own = await operator_api.answer(request, self.stats, self.faults)
            return await self._serve(request, self._answer_elsewhere) if own is None else own
        version, model_id, verb = match.groups()
        if request.method != ("POST" if verb else "GET"):
            return self._missing(request)
        method = verb or ("GetModel" if model_id else "ListModels")
        sse = method == "streamGenerateContent" and request.query.get("alt") == "sse"
        call = _Call(version, model_id or "", method, sse)
        return await self._serve(request, partial(self._answer, call=call), sse=sse)

    async def _serve(
        self,
        request: Request,
        answer: Callable[[Request, Exchange], Awaitable[web.StreamResponse]],
        *,
        sse: bool = False,
    ) -> web.StreamResponse:
        exchange = Exchange(self.stats, request)
        try:
            try:
                response = await answer(request, exchange)
            except GoogleError as error:
                self.stats.refused(error.reason)
                response = replies.rejection(request, error, sse=sse)
            await replies.finish(request, response)
            exchange.done(str(response.status))
            return response
        except (Aborted, ConnectionError):
            # A fault or the client closed the connection; aiohttp notices when it writes this.
            exchange.lost()
            return web.Response()
        except asyncio.CancelledError:
            exchange.lost()
            raise
        finally:
            exchange.close()

    async def _serve_files(self, request: Request, version: str, file_id: str | None) -> web.StreamResponse:
        method = files.method_of(request, file_id)
        if not method:
            return self._missing(request)
        self.stats.arrived(method, "", "")  # A key's record is of the requests that its quotas are about.
        try:
            project = self.files.upload_of(request.query.get("upload_id", ""))
            if project is None:
                project = self.stats.project_of(authenticate(request, version, method)).name
            response = await self.files.answer(request, project, version, file_id)
        except GoogleError as error:
            self.stats.refused(error.reason)
            response = replies.rejection(request, error, sse=False)
        self.stats.answered(str(response.status), "")
        return response

    async def _answer_elsewhere(self, request: Request, exchange: Exchange) -> web.StreamResponse:
        """The response of the services with paths of their own. Any other path gets the page of Google's front end."""
        response = await self.assist.answer(request, exchange)
        if response is None:
            self.stats.arrived("unknown", "", "")
            return replies.missing_page(request)
        return response

    async def _answer(self, request: Request, exchange: Exchange, call: _Call) -> web.StreamResponse:
        model = models.resolve(call.version, call.model_id, self._config.aliases)
        claimed = request.headers.get("x-goog-api-key") or request.query.get("key", "")
        self.stats.arrived(call.method, model.id if model else "", claimed)
        exchange.key = claimed
        if call.place is None:
            key = authenticate(request, call.version, call.method)
            if call.method == "ListModels":
                return self._list_models(request, call)
            if call.method == "GetModel":
                return self._get_model(request, call)
            project = self.stats.project_of(key)
        else:
            exchange.key = self.tokens.account_of(request, vertex.rpc(call.version, call.method))
            project = self.stats.project(vertex.project_of(call.place[0]))
        embeds = call.place is None and call.method in embeddings.METHODS
        if call.method in _GENERATING or embeds:
            exchange.open(project)
        elif call.method != "countTokens":
            raise errors.model_not_found(call.version, call.model_id, call.method)
        if call.place is None and call.model_id in models.CLOSED:
            raise errors.model_closed(call.model_id, models.CLOSED[call.model_id])
        if model is None or model.kind not in ({models.EMBEDDING} if embeds else _ANSWERING):
            if call.place is not None:
                raise vertex.model_not_found(*call.place, call.model_id)
            raise errors.model_not_found(call.version, call.model_id, call.method)
        body = await self._body(request)
        if call.method == "countTokens":
            return self._count(request, call, project, body)
        if embeds:
            return await self._embed(request, exchange, call, model, project, body)
        return await self._generate(request, exchange, call, model, project, body)

    async def _embed(
        self, request: Request, exchange: Exchange, call: _Call, model: Model, project: ProjectRecord, body: bytes
    ) -> web.Response:
        wanted = embeddings.read(body, call.method, call.version, model)
        asked, fault = self._directed(request, exchange, call, model, project, wanted.prompt)
        wall_s, window_s, tokens = self._wall_clock(), self._config.window_s, sum(wanted.counts)
        if wanted.batch:
            exceeded = project.admit_batch(model.id, request.arrived_s, tokens, wall_s, len(wanted.texts))
        else:
            exceeded = project.admit(model.id, request.arrived_s, tokens, wall_s)
        if exceeded and exceeded[0].dimension == "batches":
            raise error_faults.batches_exceeded(project.name, exceeded[0].limit)
        if exceeded:
            raise rejections.over_quota(project.settings, model.id, exceeded, window_s=window_s, wall_s=wall_s)
        self.stats.admitted(exchange.key)
        await self._wait(request, exchange, asked, fault)
        self.stats.used(tokens, 0, 0)
        return replies.document(request, embeddings.answer(wanted, model))

    async def _body(self, request: Request) -> bytes:
        limit = self._config.max_body_bytes
        if (request.content_length or 0) > limit:
            raise errors.body_too_large(limit)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise errors.body_too_large(limit) from None
        except web.RequestPayloadError:
            raise errors.invalid() from None

    async def _generate(
        self, request: Request, exchange: Exchange, call: _Call, model: Model, project: ProjectRecord, body: bytes
    ) -> web.StreamResponse:
        read = read_message if call.place is None else vertex.read
        message = read(body, "GenerateContentRequest", call.version)
        check_generate(
            message,
            model,
            signatures=self._config.require_thought_signatures,
            backend=call.backend,
            files=self.files.of(project.name),
        )
        answer, fault, pace = await self._work(request, exchange, call, model, project, message)
        if call.method == "generateContent":
            return await replies.send_unary(request, exchange, answer, model.id, fault)
        return await replies.send_stream(request, exchange, answer, model.id, fault, pace, sse=call.sse)

    async def _assist(
        self, request: Request, exchange: Exchange, model: Model, project: ProjectRecord, message: dict[str, Any]
    ) -> Work:
        call = _Call("v1", model.id, "streamAssist", sse=False)
        return await self._work(request, exchange, call, model, project, message)

    async def _work(
        self,
        request: Request,
        exchange: Exchange,
        call: _Call,
        model: Model,
        project: ProjectRecord,
        message: dict[str, Any],
    ) -> Work:
        """Admits a valid request and answers it. Raises GoogleError, or Aborted for a fault without a response."""
        prompt = answers.prompt_of(message)
        asked, fault = self._directed(request, exchange, call, model, project, prompt)
        counts = tokens.count_request(message)
        self._admit(request, exchange, model, project, sum(counts.values()), images.image_count(message, model))
        pace = await self._wait(request, exchange, asked, fault)
        answer = await _answer_of(message, model, counts, asked.words, fault, self.seeds, call.backend)
        place_type = "" if call.place is None else vertex.TRAFFIC_TYPE
        answer = replace(answer, frames=asked.frames, traffic_type=place_type)
        self.stats.used(sum(counts.values()), sum(one.tokens for one in answer.candidates), answer.thought_tokens)
        return Work(answer, fault, pace)

    def _directed(
        self, request: Request, exchange: Exchange, call: _Call, model: Model, project: ProjectRecord, prompt: str
    ) -> tuple[Directives, Fault | None]:
        """What the request's directives say, and the fault that strikes it. Raises GoogleError for one that rejects it."""
        asked = directives_of(request, prompt)
        fault = self.faults.choose(asked.fault, prompt, exchange.key, model.id)
        if fault is not None:
            self.stats.fault(fault.kind)
            if fault.kind in faults.REJECTIONS:
                raise rejections.by_fault(
                    fault,
                    project=project.settings,
                    project_name=project.name,
                    model=model.id,
                    asked_model=call.model_id,
                    version=call.version,
                    method=call.method,
                    window_s=self._config.window_s,
                    wall_s=self._wall_clock(),
                )
        return asked, fault

    async def _wait(self, request: Request, exchange: Exchange, asked: Directives, fault: Fault | None) -> replies.Pace:
        """Passes the time until the answer. Raises what the fault raises."""
        pace = replies.Pace(
            asked.latency_s if asked.latency_s is not None else self._config.latency_s,
            self._config.chunk_delay_s,
            deadline_s(request),
        )
        hangs = fault is not None and fault.kind == "hang"
        exchange.works_until((pace.deadline_s or time.monotonic() + faults.HANG_S) if hangs else pace.ready_s(1))
        await pace.before_answer()
        if fault is not None:
            await fail(exchange, fault)
        return pace

    def _admit(
        self,
        request: Request,
        exchange: Exchange,
        model: Model,
        project: ProjectRecord,
        count: int,
        pictures: int,
    ) -> None:
        if count > model.input_limit:
            raise errors.invalid(
                f"The input token count ({count}) exceeds the maximum number of tokens allowed ({model.input_limit})."
            )
        wall_s = self._wall_clock()
        exceeded = project.admit(model.id, request.arrived_s, count, wall_s, pictures)
        if exceeded and project.name.startswith(vertex.PROJECTS):
            raise vertex.exhausted(exceeded[0].dimension)
        if exceeded:
            window_s = self._config.window_s
            raise rejections.over_quota(project.settings, model.id, exceeded, window_s=window_s, wall_s=wall_s)
        self.stats.admitted(exchange.key)

    def _count(self, request: Request, call: _Call, project: ProjectRecord, body: bytes) -> web.Response:
        if call.place is None:
            message = read_message(body, "CountTokensRequest", call.version)
        else:
            message = vertex.read(body, "VertexCountTokensRequest", call.version)
        inner = message.get("generateContentRequest", message)
        check_contents(inner, self.files.of(project.name))
        counts = tokens.count_request(inner)
        shown = {"totalTokens": sum(counts.values()), "promptTokensDetails": frames.token_details(counts)}
        return replies.document(request, shown)

    def _get_model(self, request: Request, call: _Call) -> web.Response:
        entry = models.find(call.version, call.model_id)
        if entry is None:
            raise GoogleError(404, f"Model is not found: models/{call.model_id} for api version {call.version}")
        return replies.document(request, entry)

    def _list_models(self, request: Request, call: _Call) -> web.Response:
        listed = page(call.version, request.query.get("pageSize"), request.query.get("pageToken", ""))
        return replies.document(request, listed)

    def _missing(self, request: Request) -> web.Response:
        self.stats.arrived("unknown", "", "")
        self.stats.answered("404", "")
        return replies.missing_page(request)


def create_app(config: EmulatorConfig | None = None, *, wall_clock: Callable[[], float] = time.time) -> App:
    return App(config or EmulatorConfig(), wall_clock=wall_clock)


async def _answer_of(
    message: dict[str, Any],
    model: Model,
    counts: dict[str, int],
    words: int | None,
    fault: Fault | None,
    seeds: images.Seeds,
    backend: Backend,
) -> answers.Answer:
    kind = fault.kind if fault is not None else ""
    if kind == "block":
        return answers.blocked(counts)
    if kind == "safety":
        return answers.unsafe(counts)
    if kind == "max_tokens":
        return answers.out_of_tokens(counts, message)
    if kind in images.WITHOUT_IMAGE:
        return images.without_image(message, counts, kind)
    if images.image_count(message, model):
        # Runs in a thread, because a large one takes a third of a second.
        drawn = await asyncio.to_thread(images.answer, message, model, counts, seeds.next(message))
        return images.odd(drawn, kind) if kind in images.ODD_IMAGES else drawn
    answer = answers.answer(message, model, counts, words, backend)
    return answers.broken(answer, kind) if kind in ("wrong_json", "not_json") else answer
