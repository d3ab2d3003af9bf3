"""The offline Gemini Enterprise: the assistant of an engine (with an OAuth token), and the routes of its web app (with a
token that the browser's session signs).

    POST /v1*/projects/P/locations/L/collections/default_collection/engines/E/assistants/A:streamAssist
    POST /v1*/.../engines/E/sessions/S:addContextFile          S may be -, for a new session
    GET  /auth/getoxsrf?csesidx=N                               with the browser's cookies
    POST /v1alpha/locations/global/widget{CreateSession, StreamAssist, AddContextFile, ListSessionFileMetadata}
    GET  /v1alpha/<session>:downloadFile?fileId=F&alt=media     redirects to /download/<session>/F
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from . import errors, models, replies
from .answers import Answer
from .assist_answers import documents_of
from .assist_store import AssistStore, Session
from .browser_keys import BrowserKeys, signed_out
from .errors import GoogleError
from .exchange import Exchange
from .faults import Fault
from .models import Model
from .oauth import TokenServer
from .server import Request
from .stats import ProjectRecord, Stats

_ENGINE = r"projects/([^/]+)/locations/[^/]+/collections/[^/]+/engines/[^/]+"
_OFFICIAL = re.compile(
    rf"/(v1|v1alpha)/({_ENGINE})/(?:assistants/[^/:]+:(streamAssist)|sessions/([^/:]+):(addContextFile))"
)
_WIDGET = re.compile(r"/v1alpha/locations/global/(widget\w+)")
_DOWNLOAD = re.compile(r"/v1alpha/(.+):downloadFile")
_SIGNED = re.compile(r"/download/(\d+)/(\d+)")
_WEB_PARENT = "projects/104029/locations/global/collections/default_collection/engines/agentspace-engine"
_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_DEFAULT = Model("gemini-enterprise", "Gemini Enterprise", levels=("LOW", "MEDIUM", "HIGH"), level="MEDIUM")
"""The model that answers where none is named."""
_IMAGE_MODEL = "gemini-3-pro-image"
_GUARD = b")]}'\n"
_V1_FIELDS = {"query", "session", "userMetadata", "agentsSpec", "toolsSpec", "generationSpec"}
_V1ALPHA_FIELDS = _V1_FIELDS | {
    "fileIds",
    "languageCode",
    "filter",
    "answerGenerationMode",
    "assistSkippingMode",
    "assistGenerationConfig",
}


class Work(NamedTuple):
    """An admitted request: its answer, how it fails, and how fast it is sent."""

    answer: Answer
    fault: Fault | None
    pace: replies.Pace


DoWork = Callable[[Request, Exchange, Model, ProjectRecord, dict[str, Any]], Awaitable[Work]]
Body = dict[str, Any]


class Assist:
    """`wall_clock` returns Unix time in seconds, for the claims of a JWT."""

    def __init__(
        self,
        stats: Stats,
        work: DoWork,
        *,
        tokens: TokenServer,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._stats, self._work = stats, work
        self._tokens, self._wall_clock = tokens, wall_clock
        self.keys = BrowserKeys()
        self.store = AssistStore()

    async def answer(self, request: Request, exchange: Exchange) -> web.StreamResponse | None:
        """The response; None for a path that is not one of these. Raises GoogleError."""
        path = request.path
        if found := _OFFICIAL.fullmatch(path):
            return await self._official(request, exchange, found)
        if found := _WIDGET.fullmatch(path):
            return await self._widget(request, exchange, found[1])
        if path == "/auth/getoxsrf":
            self._stats.arrived("getoxsrf", "", "")
            issued = self.keys.issue(request.headers.get("Cookie", ""), request.query.get("csesidx", ""))
            return web.Response(body=_GUARD + orjson.dumps(issued), headers=replies.headers(request, replies.JSON_TYPE))
        if found := _DOWNLOAD.fullmatch(path):
            return self._download(request, found[1])
        if found := _SIGNED.fullmatch(path):
            return self._signed(request, *found.groups())
        return None

    # -- with an OAuth token -----------------------------------------------------------------------------------------

    async def _official(self, request: Request, exchange: Exchange, found: re.Match[str]) -> web.StreamResponse:
        version, engine, project, assist, session, upload = found.groups()
        owner = f"enterprise/{project}"
        self._stats.arrived(assist or upload, "", owner)
        self._tokens.account_of(request, f"google.cloud.discoveryengine.{version}.AssistantService.StreamAssist")
        body = await _body(request)
        if upload:
            where = self.store.create(engine, owner) if session == "-" else self._session(session, owner)
            return replies.document(request, self._add_file(where, body))
        return await self._assist(request, exchange, owner, engine, body, version=version)

    # -- with a browser's session ------------------------------------------------------------------------------------

    async def _widget(self, request: Request, exchange: Exchange, method: str) -> web.StreamResponse:
        owner = self._owner(request, method)
        body = await _body(request)
        if body.get("additionalParams") != {"token": "-"} or not isinstance(body.get("configId"), str):
            raise errors.invalid("configId and additionalParams.token are required.")
        if "wrong" in body["configId"]:
            raise signed_out()
        if method == "widgetStreamAssist":
            asked = _object(body, "streamAssistRequest")
            return await self._assist(request, exchange, owner, _WEB_PARENT, asked, version="v1alpha", widget=True)
        if method == "widgetCreateSession":
            session = self.store.create(_WEB_PARENT, owner)
            return replies.document(request, {"session": {"name": session.name.partition("global/")[2]}})
        if method == "widgetAddContextFile":
            asked = _object(body, "addContextFileRequest")
            session = self._session(str(asked.get("name")), owner)
            return replies.document(request, {"addContextFileResponse": self._add_file(session, asked)})
        if method == "widgetListSessionFileMetadata":
            session = self._session(str(_object(body, "listSessionFileMetadataRequest").get("name")), owner)
            listed = [
                {"fileId": file.id, "session": session.name, "mimeType": file.mime_type, "name": file.name}
                for file in session.files.values()
                if file.generated
            ]
            return replies.document(request, {"listSessionFileMetadataResponse": {"fileMetadata": listed}})
        raise GoogleError(404, "Method not found.")

    def _owner(self, request: Request, method: str) -> str:
        index = ""
        try:
            index = self.keys.check(request.headers.get("Authorization", ""), self._wall_clock())
        finally:
            self._stats.arrived(method, "", f"session/{index}" if index else "")
        return f"session/{index}"

    def _download(self, request: Request, name: str) -> web.Response:
        session = self._session(name, self._owner(request, "downloadFile"))
        file = session.files.get(request.query.get("fileId", ""))
        if file is None or request.query.get("alt") != "media":
            raise GoogleError(404, "Requested entity was not found.")
        place = f"/download/{session.name.rpartition('/')[2]}/{file.id}"
        shown = {**replies.headers(request, "text/html"), "Location": f"http://{request.host}{place}"}
        return web.Response(status=302, headers=shown)

    def _signed(self, request: Request, number: str, file_id: str) -> web.Response:
        """The file itself, from an address that is its own credential: another one is rejected, as Google's storage does."""
        self._stats.arrived("download", "", "")
        if request.headers.get("Authorization") or request.headers.get("Cookie"):
            raise errors.invalid("Only one auth mechanism allowed.")
        file = self.store.file(number, file_id)
        if file is None:
            raise GoogleError(404, "Requested entity was not found.")
        return web.Response(body=base64.b64decode(file.data), headers={"Content-Type": file.mime_type})

    # -- both --------------------------------------------------------------------------------------------------------

    def _session(self, name: str, owner: str) -> Session:
        session = self.store.find(name, owner)
        if session is None:
            raise GoogleError(404, "Session not found.")
        return session

    def _add_file(self, session: Session, body: Body) -> Body:
        name, mime_type, data = (body.get(field) for field in ("fileName", "mimeType", "fileContents"))
        if not isinstance(name, str) or not isinstance(mime_type, str) or not isinstance(data, str):
            raise errors.invalid("fileName, mimeType and fileContents are required.")
        try:
            base64.b64decode(data, validate=True)
        except (ValueError, binascii.Error):
            raise errors.invalid("Invalid value at 'file_contents' (TYPE_BYTES), Base64 decoding failed.") from None
        file = self.store.add_file(session, name, mime_type, data)
        return {"session": session.name, "fileId": file.id}

    async def _assist(
        self,
        request: Request,
        exchange: Exchange,
        owner: str,
        parent: str,
        body: Body,
        *,
        version: str,
        widget: bool = False,
    ) -> web.StreamResponse:
        exchange.key = owner
        exchange.open(project := self._stats.project(owner))
        unknown = set(body) - (_V1_FIELDS if version == "v1" else _V1ALPHA_FIELDS)
        if unknown:
            raise errors.bad_fields([("", f'Invalid JSON payload received. Unknown name "{sorted(unknown)[0]}".')])
        name = body.get("session")
        session = (
            self._session(name, owner) if isinstance(name, str) and name != "-" else self.store.create(parent, owner)
        )
        session.questions += 1
        model = _model_of(body)
        work = await self._work(request, exchange, model, project, _message(body, session, model))
        documents = documents_of(work.answer, session, self.store)
        if widget:
            documents = [{"uToken": "-", "streamAssistResponse": document} for document in documents]
        return await replies.send_array(request, exchange, documents, work.fault, work.pace)


def _message(body: Body, session: Session, model: Model) -> Body:
    """The question as a native request, which the offline Gemini answers."""
    query = _object(body, "query")
    texts = [query.get("text"), *(part.get("text") for part in query.get("parts", ()) if isinstance(part, dict))]
    text = "\n".join(one for one in texts if isinstance(one, str))
    files = []
    for file_id in body.get("fileIds", ()):
        if file_id not in session.files:
            raise errors.invalid(f"File {file_id} is not in the session.")
        files.append(session.files[file_id])
    if not text and not files:
        raise errors.invalid("Query is empty.")
    parts: list[Body] = [{"text": text}]
    parts += [{"inlineData": {"mimeType": file.mime_type, "data": file.data}} for file in files]
    contents: list[Body] = [{"role": "user", "parts": parts}]
    if session.questions > 1:
        # The assistant knows what was said in a session before.
        earlier = {"role": "user", "parts": [{"text": "an earlier question of this session"}]}
        contents = [earlier, {"role": "model", "parts": [{"text": "An answer."}]}, *contents]
    wanted = ["IMAGE"] if model.kind == models.IMAGE else ["TEXT"]
    return {"contents": contents, "generationConfig": {"responseModalities": wanted}}


def _model_of(body: Body) -> Model:
    tools = body.get("toolsSpec")
    chosen = [body.get(field) for field in ("generationSpec", "assistGenerationConfig")]
    name: Any = next((one["modelId"] for one in chosen if isinstance(one, dict) and "modelId" in one), None)
    if isinstance(tools, dict) and "imageGenerationSpec" in tools:
        name = _IMAGE_MODEL
    if name is None:
        return _DEFAULT
    model = models.resolve("v1beta", name, {}) if isinstance(name, str) and _ID.fullmatch(name) else None
    if model is None:
        raise errors.invalid(f"Model id {str(name)[:100]} is invalid.")
    return model


def _object(body: Mapping[str, Any], name: str) -> Body:
    value = body.get(name, {})
    if not isinstance(value, dict):
        raise errors.invalid(f"Invalid value at '{name}'.")
    return value


async def _body(request: Request) -> Body:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise errors.invalid("Invalid JSON payload received.")
    return body
