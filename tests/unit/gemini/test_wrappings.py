"""Any well-formed answer, in any chain of wrappings and cut anywhere, is read and paid for once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import orjson
import pytest

from shared.emulator import wrappings
from shared.emulator.odd_documents import DOCUMENTS
from shared.emulator.wrappings import NAMES, Wrapped, wrap
from shared.gemini import wire
from shared.gemini.client import MAX_REPLY_BYTES, GeminiClient
from shared.gemini.errors import UpstreamFailure
from shared.gemini.reading import AnswerReader, Unreadable, read_answer
from shared.generation import Usage

CASES = 10_000
CUT_CASES = 3_000
SOCKET_CASES = 150
MAX_LENGTH = 4
COUNTED = Usage(7, 3, 5, 15)
COUNTS = {"promptTokenCount": 7, "candidatesTokenCount": 3, "thoughtsTokenCount": 5, "totalTokenCount": 15}
UNCOUNTED = {name for name in DOCUMENTS if name.startswith("usage-")} - {"usage-late"}
PIECES = (
    "Hello", " ", "Grüße, ", "日本 ", "🌍", '{"a": [1, 2]}', "line\r\nline", "\\", '"', "}{", "]", "data: x\n\n", "[DONE]",
    "\x00\x1f", "a" * 900, "\u2028", "\ufeff", "<html>", "\ufffd", "é" * 40,
)  # fmt: skip


class Answer:
    """A random answer, as the document of a unary call and as the frames of a stream."""

    def __init__(self, rng: random.Random) -> None:
        finish = rng.choice(("STOP", "STOP", "MAX_TOKENS"))
        pieces = ["".join(rng.choices(PIECES, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 4))]
        thought = [{"text": "Let me think.", "thought": True}] if rng.random() < 0.3 else []
        self.frames: list[dict[str, Any]] = []
        for part in [*thought, *({"text": piece} for piece in pieces)]:
            self.frames.append(self._body({"content": {"parts": [part], "role": "model"}, "index": 0}))
        self.frames.append(self._body({"content": {"parts": [{"text": "", "thoughtSignature": "c2ln"}]}, "index": 0}))
        self.frames[-1]["candidates"][0]["finishReason"] = finish
        if rng.random() < 0.2:
            second = {"content": {"parts": [{"text": "Second."}], "role": "model"}, "index": 1, "finishReason": "STOP"}
            self.frames.insert(rng.randint(0, len(self.frames)), self._body(second))
        if rng.random() < 0.2:
            self.frames.append({"usageMetadata": dict(COUNTS)})
        parts = [*thought, *({"text": piece} for piece in pieces)]
        whole = {"content": {"parts": parts, "role": "model"}, "index": 0, "finishReason": finish}
        self.document = self._body(whole)

    @staticmethod
    def _body(candidate: dict[str, Any]) -> dict[str, Any]:
        return {"candidates": [candidate], "usageMetadata": dict(COUNTS), "modelVersion": "gemini-3.8-flash"}


def text_in(documents: list[dict[str, Any]]) -> str:
    """The text of the first candidate, read in the plainest way, with characters that were cut put together."""
    texts = [
        part["text"]
        for document in documents
        for candidate in document.get("candidates") or ()
        if candidate.get("index") in (None, 0, "0")
        for part in (candidate.get("content") or {}).get("parts") or ()
        if part.get("text") and not part.get("thought")
    ]
    return "".join(texts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Case:
    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.stream = rng.random() < 0.5
        self.chain = tuple(rng.choices(sorted(NAMES), k=rng.randint(0, MAX_LENGTH)))
        answer = Answer(rng)
        self.wrapped: Wrapped = wrap(answer.document, answer.frames, self.chain, stream=self.stream)
        self.body = b"".join(self.wrapped.chunks)
        framing = next((name for name in reversed(self.chain) if name in wrappings.FRAMINGS), None)
        one = framing == "object" or (framing is None and not self.stream)
        self.text = text_in([answer.document] if one else answer.frames)

    def pieces(self, body: bytes) -> list[bytes]:
        cuts = sorted(self.rng.randint(0, len(body)) for _ in range(self.rng.choice((0, 1, 3, 20))))
        return [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]

    @property
    def name(self) -> str:
        return f"{'stream' if self.stream else 'unary'} {'+'.join(self.chain)}"


def read_stream(case: Case, body: bytes) -> tuple[list[dict[str, Any]], bool]:
    """The frames, and whether they are the whole answer. Raises Unreadable."""
    reader = AnswerReader(case.wrapped.content_encoding, MAX_REPLY_BYTES)
    frames = []
    for piece in case.pieces(body):
        reader.feed(piece)
        while (frame := reader.next()) is not None:
            frames.append(frame)
    reader.end()
    while (frame := reader.next()) is not None:
        frames.append(frame)
    last = reader.last()
    return [*frames, *([last] if last is not None else [])], reader.complete


def text_and_usage(frames: list[dict[str, Any]]) -> tuple[str, Usage]:
    counts = None
    for frame in frames:
        orjson.dumps(frame)  # It can be sent on.
        counts = wire.merge_counts(counts, frame)
    return "".join(map(wire.text_of, frames)), wire.usage({"usageMetadata": counts})


def assert_read(case: Case) -> None:
    if case.stream:
        frames, complete = read_stream(case, case.body)
        assert complete
    else:
        frames = [read_answer(case.body, case.wrapped.content_encoding, MAX_REPLY_BYTES)]
    text, usage = text_and_usage(frames)
    assert text == case.text
    if UNCOUNTED & set(case.chain):
        assert usage.prompt_tokens is None
    else:
        assert usage == COUNTED


def test_an_answer_in_any_chain_of_wrappings_is_read() -> None:
    for seed in range(CASES):
        case = Case(seed)
        try:
            assert_read(case)
        except (AssertionError, Unreadable) as error:
            raise AssertionError(f"seed {seed}: {case.name}: {error}") from error


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_wrapping_is_read(name: str, stream: bool) -> None:
    for seed in range(20):
        case = Case(seed)
        answer = Answer(case.rng)
        case.stream, case.chain = stream, (name,)
        case.wrapped = wrap(answer.document, answer.frames, case.chain, stream=stream)
        case.body = b"".join(case.wrapped.chunks)
        one = name == "object" or (not stream and name not in wrappings.FRAMINGS)
        case.text = text_in([answer.document] if one else answer.frames)
        assert_read(case)


def test_an_answer_that_was_cut_is_never_taken_for_a_whole_one() -> None:
    """Whatever byte it ends at: the whole text, or an error."""
    outcomes: Counter[str] = Counter()
    for seed in range(CUT_CASES):
        case = Case(seed)
        body = case.body[: case.rng.randint(0, len(case.body))]
        try:
            if case.stream:
                frames, complete = read_stream(case, body)
            else:
                frames, complete = [read_answer(body, case.wrapped.content_encoding, MAX_REPLY_BYTES)], True
        except Unreadable:
            outcomes["unreadable"] += 1
            continue
        outcomes["whole" if complete else "cut"] += 1
        text = text_and_usage(frames)[0]
        if complete:
            assert text == case.text, f"seed {seed}: {case.name}"
        elif "\ufffd" not in text:
            assert case.text.startswith(text), f"seed {seed}: {case.name}"
    assert min(outcomes[name] for name in ("whole", "cut", "unreadable")) > CUT_CASES / 100


async def test_over_a_socket_each_is_one_exchange(
    client: GeminiClient, upstream: Any, hear: Any, exchange: Any
) -> None:
    """With bodies that end with their length, with their last chunk, or with the connection."""
    current: list[Case] = []

    @hear
    async def answer(connection: Any, request: Any) -> None:
        case = current[-1]
        ending = case.rng.choice(("length", "chunked", "close"))
        head = [f"HTTP/1.1 200 OK\r\nContent-Type: {case.wrapped.content_type}"]
        if case.wrapped.content_encoding:
            head.append(f"Content-Encoding: {case.wrapped.content_encoding}")
        head.append(
            {"length": f"Content-Length: {len(case.body)}", "chunked": "Transfer-Encoding: chunked"}.get(
                ending, "Connection: close"
            )
        )
        await connection.send("\r\n".join([*head, "", ""]).encode())
        for piece in case.pieces(case.body):
            if piece:
                await (connection.chunk if ending == "chunked" else connection.send)(piece)
                await asyncio.sleep(0)
        if ending == "chunked":
            await connection.end_stream()
        elif ending == "close":
            connection.writer.close()

    for seed in range(SOCKET_CASES):
        case = Case(seed)
        current.append(case)
        if case.stream:
            async with client.stream(exchange("streamGenerateContent")) as stream:
                frames = [frame async for frame in stream]
        else:
            frames = [await client.generate(exchange())]
        assert text_and_usage(frames)[0] == case.text, f"seed {seed}: {case.name}"
    assert len(upstream.requests) == SOCKET_CASES


@pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent"])
@pytest.mark.parametrize(
    ("content_type", "encoding", "body"),
    [
        ("text/html", "", b"<!doctype html><title>Sign in</title><body>{}</body>"),
        ("application/json", "zstd", b"\x28\xb5\x2f\xfd\x04\x00\x51\x00\x00hello"),
        ("application/json", "", b'{"candidates": [{"content": {"parts": [{"text": "This bo'),
        ("text/plain", "", b"OK"),
        ("application/json", "", b"null"),
        ("application/json", "", b"[]"),
        ("application/json", "gzip", b"\x1f\x8b\x08\x00garbage"),
    ],
)
async def test_what_cannot_be_read_is_described(
    client: GeminiClient, hear: Any, exchange: Any, verb: str, content_type: str, encoding: str, body: bytes
) -> None:
    """A whole answer is one clear error, and no remedy is to request it again."""

    @hear
    async def odd(connection: Any, request: Any) -> None:
        more = [f"Content-Encoding: {encoding}"] if encoding else []
        await connection.answer(200, body, content_type, *more)

    with pytest.raises(UpstreamFailure) as caught:
        if verb == "generateContent":
            await client.generate(exchange(verb))
        else:
            async with client.stream(exchange(verb)) as frames:
                async for _ in frames:
                    pass
    failure = caught.value
    if body.startswith(b'{"cand') and verb != "generateContent":
        assert (failure.kind, failure.status) == ("cut", 200)
        return
    assert (failure.kind, failure.status, failure.remedy) == ("malformed", 200, "none")
    assert content_type in failure.message
    assert encoding in failure.message
    assert body[:2].decode("utf-8", "backslashreplace").strip() in failure.message
