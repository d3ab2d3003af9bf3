"""Vertex AI as a backend: a URL for each project and location, and access tokens.

Requests are converted in `vertex_body`. An answer is the Gemini API's, with `trafficType` in its usage; in a stream only the
last frame has counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from shared.bounds.large_work import LARGE_BYTES, LargeWork
from shared.gemini.backend import Prepared, Urls, checked_base_url
from shared.gemini.errors import UpstreamFailure
from shared.gemini.oauth import AccessTokens
from shared.gemini.upstream import Exchange
from shared.gemini.vertex_body import vertex_body
from shared.secret import Secret

API_VERSION = "v1"
DEFAULT_LOCATION = "global"
_MULTI_REGIONS = ("us", "eu")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}")
_LOCATION = re.compile(r"[a-z0-9-]{1,40}")
_MAX_PLACES = 1024


class Vertex:
    """`base_url` replaces Google's host of every location."""

    def __init__(self, tokens: AccessTokens, large_work: LargeWork, base_url: str | None = None) -> None:
        """Raises ValueError."""
        self._tokens, self._large_work = tokens, large_work
        self._base_url = None if base_url is None else checked_base_url(base_url)
        self._urls: dict[tuple[str, str], Urls] = {}

    async def prepare(self, exchange: Exchange) -> Prepared:
        url = self._urls_at(exchange.place).of(exchange.model, exchange.verb)
        body = await self._body(exchange)
        token = await self._tokens.get(exchange.credential, exchange.timeout_s)
        return Prepared(url, token.headers, body, token.secret)

    def failure(self, failure: UpstreamFailure, exchange: Exchange, secret: Secret) -> UpstreamFailure:
        """A token that Google rejected is replaced, and the request may be sent again. A new token that it rejects is a matter
        of rights."""
        if failure.status != 401:
            return failure
        replaced = self._tokens.reject(exchange.credential, secret)
        return UpstreamFailure(
            "token" if replaced else "permission",
            failure.message,
            status=failure.status,
            reason=failure.reason,
            consumer=failure.consumer,
        )

    async def aclose(self) -> None:
        await self._tokens.aclose()

    async def _body(self, exchange: Exchange) -> bytes:
        convert = partial(vertex_body, exchange.verb, exchange.body, exchange.message)
        converted = await self._large_work.run(convert) if len(exchange.body) >= LARGE_BYTES else convert()
        return exchange.body if converted is None else converted

    def _urls_at(self, place: Mapping[str, str]) -> Urls:
        project, location = place.get("project", ""), place.get("location") or DEFAULT_LOCATION
        urls = self._urls.get((project, location))
        if urls is None:
            if not _PROJECT.fullmatch(project) or not _LOCATION.fullmatch(location):
                raise UpstreamFailure(
                    "key_invalid",
                    "The project or the location of this account is not one of Google's. Correct the account.",
                    written=False,
                )
            if len(self._urls) >= _MAX_PLACES:
                self._urls.clear()
            path = f"{API_VERSION}/projects/{project}/locations/{location}/publishers/google/models/"
            urls = self._urls[project, location] = Urls(f"{self._base_url or host(location)}/{path}")
        return urls


def host(location: str) -> str:
    """Google's origin for a location."""
    if location == DEFAULT_LOCATION:
        return "https://aiplatform.googleapis.com"
    if location in _MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"
