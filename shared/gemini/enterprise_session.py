"""Gemini Enterprise by the requests of its web app, with the cookies of a browser's session. Used only with
ALLOW_SESSION_ACCOUNTS=1: Google documents none of this, may change it without notice, and its terms may not permit it.

    cookies --getoxsrf--> a token for 300 s (`session_token`)
    token --widgetCreateSession, widgetAddContextFile--> a session with the files of one question --widgetStreamAssist--> answer

Each question has a session of its own: the assistant knows what was said in a session, and the next question is another caller's.
A rejected token is replaced; rejected cookies put the account out until a person signs in again.
"""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
from yarl import URL

from shared.clock import elapsed_s
from shared.gemini.assistant import Session
from shared.gemini.backend import Prepared, checked_base_url
from shared.gemini.enterprise_format import Question, dicts, mapping
from shared.gemini.errors import UpstreamFailure
from shared.gemini.models import is_stand_in
from shared.gemini.oauth import AccessToken, AccessTokens
from shared.gemini.quotas import UNNAMED
from shared.gemini.session_token import API, WEB, out, signer_of, user_agent
from shared.gemini.side_requests import SideRequests
from shared.gemini.upstream import Exchange
from shared.generation import JsonObject
from shared.secret import Secret

MAX_FILE_BYTES = 32 * 1024 * 1024
_LOCATION = "v1alpha/locations/global"
_BASE64_IMAGES = (b"iVBORw0KGgo", b"/9j/")
_FILE_HOSTS = (".googleapis.com", ".googleusercontent.com")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}(?:/[A-Za-z0-9][A-Za-z0-9._:-]{0,99}){1,14}")
_REJECTED = ("permission", "key_invalid", "restricted", "account")


class EnterpriseSession:
    """`tokens` mints with a `SessionMint`; `base_url` replaces Google's two hosts."""

    kind = "enterprise_session"
    image_output = True

    def __init__(self, tokens: AccessTokens, side: SideRequests, base_url: str | None = None) -> None:
        """Raises ValueError."""
        self._tokens, self._side = tokens, side
        self._own = None if base_url is None else checked_base_url(base_url)
        self._api = self._own or API

    async def open(self, exchange: Exchange, question: Question, deadline_s: float) -> Session:
        asked: JsonObject = {"createSessionRequest": {"session": {"name": "-", "displayName": "-"}}}
        created = await self._call(exchange, "widgetCreateSession", asked, deadline_s)
        name = _text(created, "session", "name")
        ids = []
        for file in question.files:
            upload = {"name": name, "fileName": file.name, "mimeType": file.mime_type, "fileContents": file.data}
            asked = {"addContextFileRequest": upload}
            added = await self._call(exchange, "widgetAddContextFile", asked, deadline_s, len(file.data))
            ids.append(_text(added, "addContextFileResponse", "fileId"))
        return Session(name, tuple(ids))

    async def prepare(self, exchange: Exchange, question: Question, session: Session, deadline_s: float) -> Prepared:
        token = await self._token(exchange, deadline_s)
        asked: JsonObject = {
            "session": session.name,
            "query": {"parts": [{"text": question.text}]},
            "filter": "",
            "fileIds": session.file_ids,
            "answerGenerationMode": "NORMAL",
            "toolsSpec": {"toolRegistry": "default_tool_registry", **question.tools},
            "languageCode": "en-US",
            "userMetadata": {"timeZone": "Etc/UTC"},
            "assistSkippingMode": "REQUEST_ASSIST",
        }
        # The web app draws with a tool of the assistant, whatever the model.
        if not is_stand_in(exchange.model) and "imageGenerationSpec" not in question.tools:
            asked["assistGenerationConfig"] = {"modelId": exchange.model}
        body = orjson.dumps({**_envelope(exchange), "streamAssistRequest": asked})
        url = URL(f"{self._api}/{_LOCATION}/widgetStreamAssist", encoded=True)
        return Prepared(url, _headers(exchange, token), body, token.secret)

    async def fetch(self, exchange: Exchange, session: Session, file: JsonObject, deadline_s: float) -> JsonObject:
        """Downloads a file that the assistant made. Raises UpstreamFailure: an answer without its image is none."""
        try:
            data = await self._download(exchange, session, file["fileUri"], deadline_s)
        except UpstreamFailure as failure:
            lost = f"An image of the answer could not be downloaded. {failure.message}"
            raise UpstreamFailure("malformed", lost, status=200) from None
        encoded = data if data.startswith(_BASE64_IMAGES) else base64.b64encode(data)
        return {"inlineData": {"mimeType": file["mimeType"] or "image/png", "data": encoded.decode("ascii", "replace")}}

    def failure(self, failure: UpstreamFailure, exchange: Exchange, secret: Secret) -> UpstreamFailure:
        """Of the request that generates: its token is known by `secret`."""
        if failure.status not in (401, 403, 429):
            return failure
        return self._meaning(failure, exchange, secret, failure.status)

    async def aclose(self) -> None:
        await self._tokens.aclose()
        await self._side.aclose()

    # -- requests of the web app -------------------------------------------------------------------------------------

    async def _call(
        self, exchange: Exchange, method: str, asked: JsonObject, deadline_s: float, size_bytes: int = 0
    ) -> JsonObject:
        """One request besides the one that generates; repeated once with a new token if an old one is rejected."""
        url, body = f"{self._api}/{_LOCATION}/{method}", {**_envelope(exchange), **asked}
        for last in (False, True):
            token = await self._token(exchange, deadline_s)
            headers, secrets = _headers(exchange, token), (token.secret,)
            try:
                return await self._side.post(url, body, headers, deadline_s, secrets, size_bytes=size_bytes)
            except UpstreamFailure as failure:
                meaning = self._meaning(failure, exchange, token.secret, None)
            if last or meaning.kind != "token":
                raise meaning
        raise AssertionError

    def _meaning(
        self, failure: UpstreamFailure, exchange: Exchange, secret: Secret, status: int | None
    ) -> UpstreamFailure:
        """What a rejection says of the account."""
        written = status is not None
        if failure.kind in ("quota", "pressure"):
            violations = failure.violations or (UNNAMED,)
            delay_s = failure.retry_delay_s
            return UpstreamFailure(
                "quota", failure.message, status=status, violations=violations, retry_delay_s=delay_s, written=written
            )
        if failure.kind not in _REJECTED:
            return failure
        if self._tokens.reject(signer_of(exchange), secret):
            return UpstreamFailure("token", failure.message, status=status, written=written)
        return out(f"its team_id is wrong, or its session has ended. {failure.message}", status)

    async def _download(self, exchange: Exchange, session: Session, file_id: str, deadline_s: float) -> bytes:
        listed = {"listSessionFileMetadataRequest": {"name": session.name, "filter": "file_origin_type = AI_GENERATED"}}
        answer = await self._call(exchange, "widgetListSessionFileMetadata", listed, deadline_s)
        # A session is named relatively when it is made, and fully here.
        files = dicts(mapping(answer.get("listSessionFileMetadataResponse")).get("fileMetadata"))
        where = next((file.get("session") for file in files if file.get("fileId") == file_id), None) or session.name
        if not isinstance(where, str) or not _NAME.fullmatch(where):
            raise UpstreamFailure("malformed", "Gemini Enterprise returned no session for a file.", written=False)
        token = await self._token(exchange, deadline_s)
        headers, secrets = _headers(exchange, token), (token.secret,)
        url = f"{self._api}/v1alpha/{where}:downloadFile?fileId={quote(file_id, safe='')}&alt=media"
        received = await self._side.get(url, headers, deadline_s, secrets, MAX_FILE_BYTES)
        if received.moved_to is not None:
            # A signed URL is its own credential.
            received = await self._side.get(self._allowed(received.moved_to), {}, deadline_s, (), MAX_FILE_BYTES)
        if not received.body:
            raise UpstreamFailure("malformed", "The file is empty.", written=False)
        return received.body

    def _allowed(self, url: str) -> str:
        """An address of Google's storage. Raises UpstreamFailure for any other."""
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        google = parts.scheme == "https" and (parts.hostname or "").endswith(_FILE_HOSTS) and "@" not in parts.netloc
        if google or (self._own is not None and url.startswith(f"{self._own}/")):
            return url
        raise UpstreamFailure("malformed", "A file was redirected to a host that is not Google's.", written=False)

    async def _token(self, exchange: Exchange, deadline_s: float) -> AccessToken:
        return await self._tokens.get(signer_of(exchange), max(0.0, deadline_s - elapsed_s()))


def _headers(exchange: Exchange, token: AccessToken) -> dict[str, str]:
    return {**token.headers, "Origin": WEB, "Referer": f"{WEB}/", "User-Agent": user_agent(exchange)}


def _envelope(exchange: Exchange) -> JsonObject:
    return {"configId": exchange.place.get("team_id", ""), "additionalParams": {"token": "-"}}


def _text(answer: JsonObject, *path: str) -> str:
    """The text at a path of names. Raises UpstreamFailure."""
    value: Any = answer
    for name in path:
        value = mapping(value).get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 500:
        raise UpstreamFailure("malformed", f"Gemini Enterprise returned no {'.'.join(path)}.", written=False)
    return value
