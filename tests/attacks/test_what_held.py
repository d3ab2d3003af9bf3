"""What was tried before and did no harm: it still does none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import orjson
import pytest
import pytest_asyncio

from tests.attacks.siege import Siege, besieged
from tests.support.processes import ADMIN_KEY

SEED = int(os.environ.get("ATTACK_SEED", "1"))
PROMPT = b'{"prompt":"Hello"}'
PIPELINED, CALLERS, MUTATIONS = 2_000, 900, 400
GROWTH_MB = 40.0
DEFECTS = {500, 501, 503, 504}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def siege(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Siege]:
    async with besieged("chat", unpacked, tmp_path_factory.mktemp("ledger")) as chat:
        yield chat


async def raw(siege: Siege, data: bytes, wait_s: float = 0.5) -> bytes:
    """What comes back for these very bytes, until nothing more comes for a moment."""
    received = b""
    try:
        async with siege.connection() as (reader, writer):
            writer.write(data)
            while chunk := await asyncio.wait_for(reader.read(1 << 20), wait_s):
                received += chunk
    except (OSError, TimeoutError):
        pass  # The server closed, or waits for more: what came until then is judged.
    return received


def post(*headers: bytes, body: bytes = PROMPT, length: bool = True) -> bytes:
    lines = [b"POST /chat HTTP/1.1", b"Host: x", b"Content-Type: application/json", *headers]
    if length:
        lines += [b"Content-Length: %d" % len(body), b"Connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


KEY = ADMIN_KEY.encode()
NO_KEYS = {
    "another case": b"Admin-API-Key: " + KEY.upper(),
    "a prefix": b"Admin-API-Key: " + KEY[:-1],
    "one more letter": b"Admin-API-Key: " + KEY + b"x",
    "a list": b"Admin-API-Key: x, " + KEY,
    "the second of two": b"Admin-API-Key: x\r\nAdmin-API-Key: " + KEY,
    "quoted": b'Admin-API-Key: "' + KEY + b'"',
    "a NUL": b"Admin-API-Key: " + KEY + b"\0",
    "folded": b"Admin-API-Key:\r\n x" + KEY,
    "latin-1": b"Admin-API-Key: \xe9" + KEY,
    "60 KB": b"Admin-API-Key: " + KEY + b"a" * 60_000,
    "as a Gemini key": b"x-goog-api-key: invalid-" + KEY,
    "basic": b"Authorization: Basic " + KEY,
    "method override": b"X-HTTP-Method-Override: GET\r\nAdmin-API-Key: x",
}


@pytest.mark.parametrize("name", NO_KEYS)
async def test_nothing_like_the_admin_key_is_one(siege: Siege, name: str) -> None:
    answer = await raw(siege, post(NO_KEYS[name]))
    assert b"HTTP/1.1 200" not in answer
    assert KEY not in answer


JSON = {
    "1,000 levels": b"[" * 1_000 + b"]" * 1_000,
    "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
    "a huge exponent": b'{"prompt":"x","temperature":1e999999}',
    "NaN": b'{"prompt":NaN}',
    "a lone surrogate": b'{"prompt":"\\ud800"}',
    "a NUL": b'{"prompt":"\\u0000"}',
    "a BOM": b"\xef\xbb\xbf" + PROMPT,
    "UTF-16": PROMPT.decode().encode("utf-16"),
    "bad UTF-8": b'{"prompt":"\xff\xfe"}',
    "the same name twice": b'{"prompt":"a","prompt":1}',
    "an integer of 1 MB": b'{"prompt":"x","seed":' + b"9" * 1_000_000 + b"}",
    "__proto__": b'{"prompt":"x","__proto__":{"admin":true}}',
    "an array": b"[1]",
    "nothing": b"",
}


@pytest.mark.parametrize("name", JSON)
async def test_odd_json_is_answered_without_a_defect(siege: Siege, name: str) -> None:
    assert await siege.post(JSON[name], admin_api_key=ADMIN_KEY) in {200, 400}


async def test_mutated_bodies_find_no_defect(siege: Siege) -> None:
    dice = Random(f"mutations {SEED}")
    whole = orjson.dumps(
        {"prompt": "Hello", "history": [{"role": "user", "text": "Hi"}], "generation_config": {"temperature": 0.5}}
    )

    async def one(body: bytes) -> int:
        return await siege.post(body, admin_api_key=ADMIN_KEY)

    for _ in range(MUTATIONS // 8):
        statuses = await asyncio.gather(*(one(mutated(dice, whole)) for _ in range(8)))
        assert not DEFECTS & set(statuses), statuses


def mutated(dice: Random, body: bytes) -> bytes:
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(body))
        piece = dice.choice(
            [b"", b'"', b"{", b"]", b",", b"null", b"\\", b"\0", b"1e9", b"\xc3", bytes([dice.randrange(256)])]
        )
        body = body[:at] + piece + body[at + dice.randint(0, 3) :]
    return body


SMUGGLED = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: smuggled\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLERS = {
    "length, then chunked": post(b"Content-Length: 4", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED, length=False),
    "chunked, then length": post(CHUNKED, b"Content-Length: 4", body=b"0\r\n\r\n" + SMUGGLED, length=False),
    "two lengths": post(b"Content-Length: 0", b"Content-Length: 200", body=SMUGGLED, length=False),
    "a signed length": post(b"Content-Length: +0", body=SMUGGLED, length=False),
    "a hexadecimal length": post(b"Content-Length: 0x0", body=SMUGGLED, length=False),
    "a length of 2^63": post(b"Content-Length: 9223372036854775808", body=SMUGGLED, length=False),
    "an unknown coding": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED, length=False),
    "a space before the colon": post(b"Content-Length : 0", body=SMUGGLED, length=False),
    "a chunk's length overflows": post(CHUNKED, body=b"FFFFFFFFFFFFFFFFF\r\n" + SMUGGLED, length=False),
    "a chunk's length is negative": post(CHUNKED, body=b"-1\r\n" + SMUGGLED, length=False),
    "a bare line feed in a chunk": post(CHUNKED, body=b"0\n\n" + SMUGGLED, length=False),
}


@pytest.mark.parametrize("name", SMUGGLERS)
async def test_no_request_is_smuggled(siege: Siege, name: str) -> None:
    """In front of a proxy that reads the same bytes in another way, the second request would be somebody else's."""
    answer = await raw(siege, SMUGGLERS[name])
    accepted = answer.count(b"HTTP/1.1 2")
    assert b"x-request-id: smuggled" not in answer.lower() or accepted == 0


async def test_odd_targets_are_refused(siege: Siege) -> None:
    for target in (b"/" + b"a" * 100_000, b"http://elsewhere.example/chat", b"//elsewhere.example/chat", b"*"):
        answer = await raw(siege, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/1.1 5" not in answer
        assert b"location: http" not in answer.lower()
    assert b"HTTP/1.1 2" not in await raw(siege, b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_pipelined_requests_are_answered_in_order(siege: Siege) -> None:
    requests = b"".join(
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: number-%d\r\n\r\n" % number for number in range(PIPELINED)
    )
    answer = await raw(siege, requests, wait_s=2.0)
    lines = [line for line in answer.split(b"\r\n") if line.lower().startswith(b"x-request-id:")]
    numbers = [int(line.rpartition(b"-")[2]) for line in lines]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= PIPELINED / 2


INJECTIONS = ("a\r\nx-injected: 1", "a\nx-injected: 1", "a\rx-injected: 1", "a%0d%0ax-injected: 1", "é", "a" * 10_000)


@pytest.mark.parametrize("text", INJECTIONS)
async def test_no_field_reaches_a_header_unchecked(siege: Siege, text: str) -> None:
    body = orjson.dumps({"prompt": text, "model": text, "system_prompt": text})
    given = text.replace("\r", "%0d").replace("\n", "%0a").encode("latin-1")
    headers = (b"X-Request-Id: " + given, b"X-Caller-Id: " + given, b"Origin: " + given, b"Admin-API-Key: " + KEY)
    answer = await raw(siege, post(*headers, body=body), wait_s=2.0)
    head, _, _ = answer.partition(b"\r\n\r\n")
    assert b"\nx-injected" not in head.lower()
    assert b"HTTP/1.1 500" not in answer


async def test_callers_leave_nothing_behind(siege: Siege) -> None:
    """Each request has a caller's name of its own."""
    async with siege.watched():
        await asyncio.sleep(1)
    before_mb = siege.peak_mb
    async with siege.watched():
        for first in range(0, CALLERS, 15):
            names = [f"caller-{first + at}" for at in range(15)]
            await asyncio.gather(*(siege.post(PROMPT, admin_api_key=ADMIN_KEY, x_caller_id=name) for name in names))
    assert siege.peak_mb - before_mb < GROWTH_MB
