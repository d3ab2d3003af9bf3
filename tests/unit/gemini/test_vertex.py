"""Vertex AI as a backend: where an exchange goes, and what its failures mean."""

from __future__ import annotations

from typing import Any

import pytest

from shared.bounds.large_work import LargeWork
from shared.gemini.errors import UpstreamFailure
from shared.gemini.oauth import MIN_AGE_S, AccessTokens, Minted
from shared.gemini.upstream import Exchange
from shared.gemini.vertex import Vertex, host
from shared.secret import Secret

CREDENTIAL = Secret('{"type": "adc"}')
TOKEN = Secret("ya29.a-token")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vertex(clock: Clock) -> Vertex:
    return Vertex(AccessTokens(lambda _: Minted(TOKEN, 3600.0), elapsed=clock), LargeWork())


def exchange(verb: str = "generateContent", body: bytes = b'{"contents":[]}', **place: str) -> Exchange:
    return Exchange(CREDENTIAL, "gemini-3.8-flash", verb, body, 30.0, place=place)


@pytest.mark.parametrize(
    ("location", "origin"),
    [
        ("global", "https://aiplatform.googleapis.com"),
        ("us-central1", "https://us-central1-aiplatform.googleapis.com"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com"),
    ],
)
async def test_each_location_has_its_host(vertex: Vertex, location: str, origin: str) -> None:
    assert host(location) == origin
    sent = await vertex.prepare(exchange(project="p-1", location=location))
    path = f"/v1/projects/p-1/locations/{location}/publishers/google/models/gemini-3.8-flash:generateContent"
    assert str(sent.url) == origin + path
    assert (sent.headers, sent.secret) == ({"Authorization": "Bearer ya29.a-token"}, TOKEN)
    assert sent.body == b'{"contents":[]}'


async def test_the_location_is_global_unless_it_is_given(vertex: Vertex) -> None:
    sent = await vertex.prepare(exchange("streamGenerateContent", project="example.com:p"))
    assert sent.url.raw_path.startswith("/v1/projects/example.com:p/locations/global/")
    assert sent.url.query_string == "alt=sse"


async def test_another_base_url_serves_every_location(clock: Clock) -> None:
    tokens = AccessTokens(lambda _: Minted(TOKEN, 3600.0), elapsed=clock)
    vertex = Vertex(tokens, LargeWork(), "http://127.0.0.1:8765/")
    sent = await vertex.prepare(exchange(project="p", location="us-central1"))
    assert str(sent.url).startswith("http://127.0.0.1:8765/v1/projects/p/locations/us-central1/")


@pytest.mark.parametrize(
    "place",
    [{}, {"project": ""}, {"project": "a/b"}, {"project": "p", "location": "evil.example/"}, {"project": "P"}],
)
async def test_a_place_that_is_none_is_refused_unsent(vertex: Vertex, place: Any) -> None:
    with pytest.raises(UpstreamFailure) as caught:
        await vertex.prepare(exchange(**place))
    assert (caught.value.kind, caught.value.written) == ("key_invalid", False)


async def test_a_large_body_is_converted_too(vertex: Vertex) -> None:
    text = b"x" * 300_000
    sent = await vertex.prepare(exchange(body=b'{"contents":[{"parts":[{"text":"%s"}]}]}' % text, project="p"))
    assert sent.body == b'{"contents":[{"parts":[{"text":"%s"}],"role":"user"}]}' % text


async def test_a_rejected_token_is_another_failure_than_missing_rights(vertex: Vertex, clock: Clock) -> None:
    sent = exchange(project="p")
    secret = (await vertex.prepare(sent)).secret
    rejected = UpstreamFailure(
        "key_invalid", "Expected OAuth 2 access token.", status=401, reason="ACCESS_TOKEN_EXPIRED"
    )
    failure = vertex.failure(rejected, sent, secret)
    assert (failure.kind, failure.remedy, failure.status) == ("permission", "next_account", 401)
    clock.now_s += MIN_AGE_S
    failure = vertex.failure(rejected, sent, secret)
    assert (failure.kind, failure.remedy) == ("token", "same_account")
    assert (failure.message, failure.reason) == (rejected.message, rejected.reason)


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
async def test_other_failures_mean_what_they_mean_everywhere(vertex: Vertex, status: int) -> None:
    failure = UpstreamFailure("server", "x", status=status)
    assert vertex.failure(failure, exchange(project="p"), TOKEN) is failure
