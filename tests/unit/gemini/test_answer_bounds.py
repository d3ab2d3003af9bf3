"""Answers that cost more than answers do: of nothing but structure, or never coming to the point."""

from __future__ import annotations

import asyncio
import gzip
import time

import orjson
import pytest

from shared.bounds.json_structure import MAX_VALUES
from shared.gemini import reading
from shared.gemini.errors import UpstreamFailure
from shared.gemini.reading import AnswerReader, Unreadable, read_answer

MAX_BYTES = 64 * 1024 * 1024
UNITS = [b"[]", b"{}", b"1", b'""', b'{"a":1}', b"[[]]"]
SLOWEST_S = 5.0
"""Ten times what a slow machine takes; without the bounds it was up to 13 s."""


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("form", [b"[%b]", b'{"candidates":[%b]}', b"%b", b'data: {"a":[%b]}\n\n'])
@pytest.mark.parametrize("coding", ["", "gzip"])
def test_a_whole_answer_of_structure_is_unreadable(unit: bytes, form: bytes, coding: str) -> None:
    body = form % b",".join([unit] * (6_000_000 // (len(unit) + 1)))
    began_s = time.process_time()
    with pytest.raises(Unreadable, match=r"values and field names|no JSON object"):
        read_answer(gzip.compress(body, 1) if coding else body, coding, MAX_BYTES)
    assert time.process_time() - began_s < SLOWEST_S


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("begin", "between"), [(b'data: {"a":[', b","), (b"[", b","), (b'{"a":[', b",")])
def test_a_stream_of_structure_is_unreadable(
    monkeypatch: pytest.MonkeyPatch, unit: bytes, begin: bytes, between: bytes
) -> None:
    monkeypatch.setattr(reading, "MAX_STREAM_VALUES", MAX_VALUES)
    reader = AnswerReader("", 256 * 1024 * 1024)
    piece = (unit + between) * (200_000 // (len(unit) + 1))
    with pytest.raises(Unreadable):
        reader.feed(begin)
        for _ in range(MAX_VALUES * 9 // len(piece)):
            reader.feed(piece)
            while reader.next() is not None:
                pass
        reader.feed(b"]}\n\n")
        reader.end()
        while reader.next() is not None:
            pass


def test_large_answers_of_text_and_of_numbers_are_read() -> None:
    text = "one, two: [three], {four} " * 1_000_000
    assert read_answer(orjson.dumps({"text": text}), "", MAX_BYTES) == {"text": text}
    embeddings = {"embeddings": [{"values": [0.5] * 3072}] * 100}
    assert len(orjson.dumps(embeddings)) > MAX_VALUES
    assert read_answer(orjson.dumps(embeddings), "", MAX_BYTES) == embeddings


async def test_interim_answers_without_end_are_given_up(client, hear, exchange) -> None:
    async def script(connection, received) -> None:
        for _ in range(100_000):
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    hear(script)
    async with asyncio.timeout(20):
        with pytest.raises(UpstreamFailure) as failed:
            await client.generate(exchange(timeout_s=60))
    assert failed.value.kind == "malformed"


async def test_some_interim_answers_are_skipped(client, hear, exchange) -> None:
    async def script(connection, received) -> None:
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 5)
        await connection.answer(200, b'{"candidates":[]}')

    hear(script)
    assert await client.generate(exchange()) == {"candidates": []}


async def test_many_frames_give_way_to_other_requests(client, hear, exchange) -> None:
    async def script(connection, received) -> None:
        await connection.begin_stream()
        await connection.chunk(b"data: {}\n\n" * 20_000)

    hear(script)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with client.stream(exchange(verb="streamGenerateContent")) as frames:
        await anext(frames)
        task, before = asyncio.create_task(other()), turns
        for _ in range(15_000):
            await anext(frames)
        assert turns - before > 10
        task.cancel()
