"""Gemini Enterprise by its documented API: the assistant of an engine, with the access token of a service account.

A question without files goes to v1, which makes a session for it. Files are uploaded with v1's `addContextFile`; a question can
name them in v1alpha alone (discoveryengine's reference, October 2026).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson
from yarl import URL

from shared.gemini.assistant import Session
from shared.gemini.backend import Prepared, checked_base_url
from shared.gemini.enterprise_format import ContextFile, Question
from shared.gemini.errors import UpstreamFailure
from shared.gemini.models import is_stand_in
from shared.gemini.oauth import AccessToken, AccessTokens
from shared.gemini.side_requests import SideRequests
from shared.gemini.upstream import Exchange
from shared.generation import JsonObject
from shared.secret import Secret

DEFAULT_ASSISTANT = "default_assistant"
_LOCATIONS = ("global", "us", "eu")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_SESSION = re.compile(r"projects/[A-Za-z0-9.:_-]{1,100}(?:/[A-Za-z0-9_-]{1,100}){8,12}")


class Enterprise:
    """`base_url` replaces Google's host of every location."""

    kind = "enterprise"
    image_output = False

    def __init__(self, tokens: AccessTokens, side: SideRequests, base_url: str | None = None) -> None:
        """Raises ValueError."""
        self._tokens, self._side = tokens, side
        self._base_url = None if base_url is None else checked_base_url(base_url)

    async def open(self, exchange: Exchange, question: Question, deadline_s: float) -> Session:
        engine = engine_of(exchange.place)
        token = await self._tokens.get(exchange.credential, exchange.timeout_s)
        name, ids = f"{engine}/sessions/-", []
        for file in question.files:
            added = await self._add(exchange, token, name, file, deadline_s)
            name = added["session"]
            ids.append(added["fileId"])
        return Session(name if ids else "", tuple(ids))

    async def prepare(self, exchange: Exchange, question: Question, session: Session, deadline_s: float) -> Prepared:
        engine = engine_of(exchange.place)
        assistant = exchange.place.get("assistant") or DEFAULT_ASSISTANT
        if not _ID.fullmatch(assistant):
            raise _wrong_place()
        token = await self._tokens.get(exchange.credential, exchange.timeout_s)
        body: JsonObject = {"query": {"text": question.text}, "toolsSpec": question.tools}
        version = "v1"
        if not is_stand_in(exchange.model):
            body["generationSpec"] = {"modelId": exchange.model}
        if session.file_ids:
            version = "v1alpha"
            body |= {"session": session.name, "fileIds": session.file_ids}
        path = f"{version}/{engine}/assistants/{assistant}:streamAssist"
        url = URL(f"{self._origin(exchange.place)}/{path}", encoded=True)
        return Prepared(url, token.headers, orjson.dumps(body), token.secret)

    async def fetch(self, exchange: Exchange, session: Session, file: JsonObject, deadline_s: float) -> JsonObject:
        """Such an account is asked for no files. One that comes all the same is named, not dropped."""
        return {
            "text": f"[The assistant made a file of the type {file['mimeType'][:100]}, which is not returned here.]"
        }

    def failure(self, failure: UpstreamFailure, exchange: Exchange, secret: Secret) -> UpstreamFailure:
        if failure.status == 404:
            return UpstreamFailure(
                "restricted",
                f"Gemini Enterprise does not know the engine or the assistant of this account. {failure.message}",
                status=404,
                consumer=failure.consumer,
            )
        return self._tokens.failure(failure, exchange.credential, secret)

    async def aclose(self) -> None:
        await self._side.aclose()

    async def _add(
        self, exchange: Exchange, token: AccessToken, session: str, file: ContextFile, deadline_s: float
    ) -> JsonObject:
        """Uploads one file. {"session", "fileId"}"""
        added = await self._side.post(
            f"{self._origin(exchange.place)}/v1/{session}:addContextFile",
            {"fileName": file.name, "mimeType": file.mime_type, "fileContents": file.data},
            token.headers,
            deadline_s,
            (token.secret,),
            size_bytes=len(file.data),
        )
        name, file_id = added.get("session"), added.get("fileId")
        if not isinstance(name, str) or not _SESSION.fullmatch(name) or not isinstance(file_id, str):
            raise UpstreamFailure("malformed", "Gemini Enterprise returned no id for an uploaded file.", written=False)
        return {"session": name, "fileId": file_id}

    def _origin(self, place: Mapping[str, str]) -> str:
        return self._base_url or host(place.get("location") or "global")


def host(location: str) -> str:
    """Google's origin for a location."""
    return f"https://{'' if location == 'global' else f'{location}-'}discoveryengine.googleapis.com"


def engine_of(place: Mapping[str, str]) -> str:
    """The resource name of the account's engine. Raises UpstreamFailure."""
    project, location, engine = place.get("project", ""), place.get("location") or "global", place.get("engine", "")
    if not _PROJECT.fullmatch(project) or location not in _LOCATIONS or not _ID.fullmatch(engine):
        raise _wrong_place()
    return f"projects/{project}/locations/{location}/collections/default_collection/engines/{engine}"


def _wrong_place() -> UpstreamFailure:
    return UpstreamFailure(
        "key_invalid",
        "The project, location (global, us or eu), engine or assistant of this account is not one of Google's. Correct the "
        "account.",
        written=False,
    )
