"""Request bodies: encoded once, off the event loop if they are large, and counted in the byte budget."""

from __future__ import annotations

import threading

import pytest

from shared.bounds.byte_budget import Bucket, ByteBudget
from shared.bounds.large_work import LARGE_BYTES, LargeWork
from shared.errors import QueueFull
from shared.gateway.request_bodies import RequestBodies
from shared.generation import Caller, Generation, JsonObject

CALLER = Caller("c", "caller_key")
BODY: JsonObject = {"contents": [{"parts": [{"text": "Hello"}]}]}


def bodies(total_bytes: int = 1 << 20) -> RequestBodies:
    return RequestBodies(ByteBudget(total_bytes), LargeWork())


async def test_shared_body_is_encoded_once() -> None:
    made = bodies()
    encoded = await made.build(lambda: BODY, 0, CALLER, None)
    assert await made.encoded(Generation("m", BODY, CALLER, 9.0, encoded=encoded)) is encoded
    assert (encoded.body, encoded.data) == (BODY, b'{"contents":[{"parts":[{"text":"Hello"}]}]}')


@pytest.mark.parametrize("size_bytes", [LARGE_BYTES - 1, LARGE_BYTES])
async def test_large_body_is_built_in_a_thread(size_bytes: int) -> None:
    threads = []

    def builder() -> JsonObject:
        threads.append(threading.current_thread() is threading.main_thread())
        return BODY

    made = bodies()
    await made.build(builder, size_bytes, CALLER, None)
    made.large_work.close()
    assert threads == [size_bytes < LARGE_BYTES]


async def test_body_without_a_claim_is_counted_while_held() -> None:
    made = bodies()
    generation = Generation("m", BODY, CALLER, 9.0)
    encoded = await made.encoded(generation)
    with made.held(generation, encoded):
        assert made.byte_budget.used_bytes == len(encoded.data)
    assert made.byte_budget.used_bytes == 0
    full = bodies(total_bytes=8)
    with pytest.raises(QueueFull), full.held(generation, encoded):
        pass


async def test_claim_of_the_request_covers_its_body() -> None:
    """Its bytes stay counted until the request's end."""
    made = bodies()
    claim = made.byte_budget.claim(Bucket("c", known=False))
    generation = Generation("m", BODY, CALLER, 9.0, claim=claim)
    encoded = await made.encoded(generation)
    with made.held(generation, encoded):
        pass
    assert claim.held_bytes == made.byte_budget.used_bytes == len(encoded.data)
