"""Reading answers in forms that were met in the field, one by one."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import brotli
import orjson
import pytest

from shared.gemini import wire
from shared.gemini.decoding import Decoder, TooLong
from shared.gemini.objects import ObjectScanner
from shared.gemini.reading import AnswerReader, Unreadable, describe, is_error, read_answer, read_error_body
from shared.gemini.sse import EventTooLarge
from shared.generation import JsonObject

MAX_BYTES = 64 * 1024 * 1024
HEL = '{"candidates": [{"content": {"parts": [{"text": "Hel"}], "role": "model"}, "index": 0}]}'
LO = (
    '{"candidates": [{"content": {"parts": [{"text": "lo"}], "role": "model"}, "index": 0, "finishReason": "STOP"}], '
    '"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10}}'
)
REFUSED = '{"error": {"code": 429, "message": "Resource has been exhausted.", "status": "RESOURCE_EXHAUSTED"}}'


def frames_of(*chunks: bytes | str, encoding: str = "") -> tuple[list[JsonObject], bool]:
    reader = AnswerReader(encoding, MAX_BYTES)
    for chunk in chunks:
        reader.feed(chunk.encode() if isinstance(chunk, str) else chunk)
    reader.end()
    frames = []
    while (frame := reader.next()) is not None:
        frames.append(frame)
    last = reader.last()
    return [*frames, *([last] if last is not None else [])], reader.complete


def text_of(*chunks: bytes | str, encoding: str = "") -> str:
    frames, complete = frames_of(*chunks, encoding=encoding)
    assert complete
    return "".join(map(wire.text_of, frames))


def answer_of(body: bytes | str, encoding: str = "") -> JsonObject:
    return read_answer(body.encode() if isinstance(body, str) else body, encoding, MAX_BYTES)


class TestStreams:
    @pytest.mark.parametrize(
        "body",
        [
            f"data: {HEL}\n\ndata: {LO}\n\ndata: [DONE]\n\n",
            f"data: {HEL}\n\ndata: {LO}\n\ndata:[done]",
            f"data: {HEL}\n\ndata: {LO}",
            f"data: {HEL}\n\ndata: {LO}\n",
            f"data:\n\ndata: {HEL}\n\ndata: \n\ndata: {LO}\n\n",
            f": keep-alive\n\nevent: message\ndata: {HEL}\n\nevent: message\nid: 7\ndata: {LO}\n\n",
            f"data: null\n\ndata: {HEL}\n\ndata: ping\n\ndata: {LO}\n\ndata: 0\n\n",
            f"data: [{HEL}]\n\ndata: [{LO}]\n\n",
            f"data: {HEL}{LO}\n\n",
            f"data: {HEL} ,\n\ndata: {LO}]\n\n",
            f"[{HEL},\r\n{LO}\n]\n",
            f"[{HEL}\n,\n{LO}",
            f"{HEL}\n{LO}\n",
            f"\ufeff)]}}'\n[{HEL},{LO}]",
            f"\n\n{HEL}{LO}</html>",
            f"data: {HEL}\n\ndata: {LO}\n\n<!-- {{ -->",
            f'data: {HEL}\n\ndata: {LO}\n\ndata: {{"usage', # cut after the answer was complete
        ],
    )  # fmt: skip
    def test_the_text_is_read_whole_and_byte_by_byte(self, body: str) -> None:
        assert text_of(body) == "Hello"
        assert text_of(*(bytes([byte]) for byte in body.encode())) == "Hello"

    def test_an_element_of_an_array_is_there_before_the_next(self) -> None:
        reader = AnswerReader("", MAX_BYTES)
        reader.feed(f"[{HEL}".encode())
        first = reader.next()
        assert first is not None
        assert wire.text_of(first) == "Hel"
        assert reader.next() is None

    @pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
    def test_a_compressed_frame_is_there_before_the_next(self, coding: str) -> None:
        event = f"data: {HEL}\n\n".encode()
        if coding == "br":
            compressor = brotli.Compressor()
            sent = compressor.process(event) + compressor.flush()
        else:
            deflate = zlib.compressobj(wbits=31 if coding == "gzip" else 15)
            sent = deflate.compress(event) + deflate.flush(zlib.Z_SYNC_FLUSH)
        reader = AnswerReader(coding, MAX_BYTES)
        reader.feed(sent)
        assert reader.next() is not None

    @pytest.mark.parametrize("body", [f"[{HEL},{REFUSED}]", f"data: {HEL}\n\ndata: {REFUSED}\n\n", f"[{REFUSED}]"])
    def test_an_error_inside_is_a_frame(self, body: str) -> None:
        frames, complete = frames_of(body)
        assert not complete
        assert is_error(frames[-1])

    @pytest.mark.parametrize(
        "body",
        [
            'data: {"candidates": [{"content"\n\ndata: ' + LO + "\n\n",
            f'data: {LO}\n\ndata: {{"candidates": [{{"content": {{"parts": [{{"text": "lost\n\n',
            "{" + LO,
            'data: {"text": nonsense}\n\n',
        ],
    )
    def test_a_broken_frame_is_never_skipped(self, body: str) -> None:
        """It may hold a part of the text."""
        with pytest.raises(Unreadable):
            frames_of(body)

    def test_a_stream_without_its_finish_is_not_complete(self) -> None:
        assert frames_of(f"data: {HEL}\n\ndata: [DONE]\n\n")[1] is False
        assert frames_of(f"[{HEL}]")[1] is False

    def test_finish_reasons_before_the_end_do_not_end_it(self) -> None:
        empty = '{"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]}'
        assert text_of(f"data: {empty}\n\ndata: {LO}\n\ndata: {LO}\n\n") == "lolo"

    def test_default_enum_is_not_a_finish_reason(self) -> None:
        unset = HEL.replace('"index": 0', '"index": 0, "finishReason": "FINISH_REASON_UNSPECIFIED"')
        assert frames_of(f"data: {unset}\n\n")[1] is False
        assert text_of(f"data: {unset}\n\ndata: {LO}\n\n") == "Hello"

    def test_a_large_signature_costs_its_length(self) -> None:
        """600 KB in pieces of 1 KB, as an array."""
        signed = LO.replace('"text": "lo"', f'"text": "lo", "thoughtSignature": "{"A" * 600_000}"')
        body = f"[{HEL},{signed}]".encode()
        assert text_of(*(body[at : at + 1000] for at in range(0, len(body), 1000))) == "Hello"


class TestCharactersInHalves:
    @pytest.mark.parametrize(
        ("first", "second", "text"),
        [
            (r"smile \ud83d", r"\ude00 done", "smile 😀 done"),
            (r"smile \ud83d", r" done", "smile \ufffd done"),
            (r"smile \ude00", r"\ud83d done", "smile \ufffd\ufffd done"),
            (r"smile", r"\ud83d", "smile\ufffd"),
            (r"\ud83d", r"", "\ufffd"),
            (r"\ud83d\ude00", r"", "😀"),
        ],
    )
    def test_they_are_joined_or_replaced(self, first: str, second: str, text: str) -> None:
        frames = [HEL.replace("Hel", first), LO.replace("lo", second, 1)]
        assert text_of(*(f"data: {frame}\n\n" for frame in frames)) == text
        unary = LO.replace('{"text": "lo"}', f'{{"text": "{first}"}}, {{"text": "{second}"}}')
        read = answer_of(unary)
        assert wire.text_of(read) == text
        assert orjson.loads(orjson.dumps(read)) == read

    def test_a_half_waits_for_its_own_candidate(self) -> None:
        """Thoughts and other candidates between the halves do not take the second one."""
        thought = '{"candidates": [{"content": {"parts": [{"text": "hm", "thought": true}]}, "index": 0}]}'
        other = '{"candidates": [{"content": {"parts": [{"text": "x"}]}, "index": 1, "finishReason": "STOP"}]}'
        frames = [HEL.replace("Hel", r"\ud83d"), thought, other, LO.replace("lo", r"\ude00", 1)]
        assert text_of(*(f"data: {frame}\n\n" for frame in frames)) == "😀"

    def test_other_texts_and_names_are_whole_too(self) -> None:
        call = r'{"functionCall": {"name": "f", "args": {"\ud83d": ["\ude00", {"a": "\ud83d\ude00"}], "n": 12}}}'
        read = answer_of(LO.replace('{"text": "lo"}', call))
        args = read["candidates"][0]["content"]["parts"][0]["functionCall"]["args"]
        assert args == {"\ufffd": ["\ufffd", {"a": "😀"}], "n": 12}

    def test_numbers_are_read_as_in_other_answers(self) -> None:
        numbers = '"n": [1, -9223372036854775808, 18446744073709551615, 123456789012345678901234567890, 1.5, NaN]'
        read = answer_of(LO.replace('"index": 0', rf'"index": 0, "x": "\ud83d", {numbers}'))
        assert read["candidates"][0]["n"] == [1, -(2**63), 2**64 - 1, 1.2345678901234568e29, 1.5, None]
        orjson.dumps(read)

    def test_bytes_that_are_not_utf8_cost_a_character(self) -> None:
        assert wire.text_of(answer_of(LO.encode().replace(b"lo", b"l\xffo"))) == "l\ufffdo"
        assert wire.text_of(answer_of(LO.encode().replace(b"lo", b"\xed\xa0\xbd\xed\xb8\x80"))) == "😀"

    def test_deep_nesting_is_one_error(self) -> None:
        deep = LO.replace('"index": 0', r'"x": "\ud83d", "index": ' + "[" * 200_000 + "]" * 200_000)
        with pytest.raises(Unreadable):
            answer_of(deep)


class TestUnaryAnswers:
    @pytest.mark.parametrize(
        "body",
        [
            f"data: {HEL}\r\n\r\ndata: {LO}\r\n\r\n",
            f"[{HEL},{LO}]",
            f"\ufeff{LO.replace('lo', 'Hello', 1)}",
            f")]}}'\n{LO.replace('lo', 'Hello', 1)}",
            f"{LO.replace('lo', 'Hello', 1)}\n</html>}}",
            f"[{LO.replace('lo', 'Hello', 1)}]",
            f"data: {LO.replace('lo', 'Hello', 1)}",
        ],
    )
    def test_frames_are_one_answer(self, body: str) -> None:
        read = answer_of(body)
        assert wire.text_of(read) == "Hello"
        assert wire.finish_reason(read) == "STOP"
        assert wire.usage(read).total_tokens == 10

    def test_merging_keeps_the_order_of_parts_and_candidates(self) -> None:
        other = '{"candidates": [{"content": {"parts": [{"text": "two"}]}, "index": 1, "finishReason": "STOP"}]}'
        call = '{"candidates": [{"content": {"parts": [{"functionCall": {"name": "f"}}]}, "index": 0}]}'
        late = '{"candidates": null, "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 5}, "modelVersion": null}'
        read = answer_of(f"[{HEL},{other},{call},{LO},{late}]")
        first, second = read["candidates"]
        assert [list(part) for part in first["content"]["parts"]] == [["text"], ["functionCall"], ["text"]]
        assert (second["index"], second["content"]["parts"]) == (1, [{"text": "two"}])
        assert wire.usage(read) == (7, 5, 0, 10)
        assert "modelVersion" not in read

    def test_a_count_of_tokens_is_read_in_any_wrapping(self) -> None:
        for body in ('{"totalTokens": 100}', '\ufeff{"totalTokens": 100}', 'data: {"totalTokens": 100}\n\n'):
            assert answer_of(body) == {"totalTokens": 100}

    def test_an_error_among_frames_is_the_answer(self) -> None:
        assert answer_of(f"[{HEL},{REFUSED}]") == orjson.loads(REFUSED)

    @pytest.mark.parametrize(
        "body", [f"data: {HEL}\n\n", f"[{HEL}", f"[{HEL}]", HEL[:-10], "", "data: ", "[" + HEL[:-5]]
    )
    def test_an_answer_that_ends_early_is_not_taken(self, body: str) -> None:
        with pytest.raises(Unreadable) as caught:
            answer_of(body)
        assert caught.value.cut_short or "no JSON" in str(caught.value)

    @pytest.mark.parametrize("error", [None, {}, ""])
    def test_an_error_that_is_null_is_none(self, error: Any) -> None:
        assert not is_error({"error": error})
        assert is_error({"error": {"code": 500}, "candidates": None})


class TestErrorBodies:
    @pytest.mark.parametrize(
        ("body", "encoding"),
        [
            (b"\xef\xbb\xbf" + REFUSED.encode(), ""),
            (gzip.compress(REFUSED.encode()), "gzip"),
            (gzip.compress(REFUSED.encode()), ""),
            (brotli.compress(REFUSED.encode()), "br"),
            (REFUSED.encode("utf-16"), ""),
            (f"data: {REFUSED}\n\n".encode(), ""),
            (f"{REFUSED}\n<!-- proxy -->".encode(), ""),
            (REFUSED.replace("Resource", r"\ud83d Resource").encode(), ""),
        ],
    )
    def test_they_are_read_like_answers(self, body: bytes, encoding: str) -> None:
        assert orjson.loads(read_error_body(body, encoding))["error"]["code"] == 429

    @pytest.mark.parametrize("body", [b"", b"<html>429</html>", b"no", REFUSED.encode(), f"[{REFUSED}]".encode()])
    def test_what_is_plain_stays_as_it_is(self, body: bytes) -> None:
        assert read_error_body(body, "") == body


class TestBounds:
    @pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
    def test_a_compressed_answer_is_bounded_by_what_it_becomes(self, coding: str) -> None:
        zeros = bytes(10_000_000)
        pack = {"gzip": gzip.compress, "br": brotli.compress, "deflate": zlib.compress}[coding]
        with pytest.raises(TooLong):
            Decoder(coding, 1_000_000).feed(pack(zeros))
        with pytest.raises(Unreadable, match="longer than an answer may be"):
            read_answer(pack(zeros), coding, 1_000_000)

    def test_an_object_over_the_bound_is_refused_as_soon_as_it_is(self) -> None:
        scanner = ObjectScanner(1000)
        with pytest.raises(EventTooLarge, match="1000 bytes"):
            for _ in range(200):
                scanner.feed(b'{"a": "' + b"x" * 90)

    def test_several_members_of_gzip_are_one_body(self) -> None:
        body = LO.encode()
        assert wire.text_of(answer_of(gzip.compress(body[:40]) + gzip.compress(body[40:]), "gzip")) == "lo"

    def test_a_gzip_body_without_its_trailer_is_read(self) -> None:
        assert wire.text_of(answer_of(gzip.compress(LO.encode())[:-8], "gzip")) == "lo"


def test_what_came_is_described_within_bounds() -> None:
    shown = describe(b"<html>\r\n\x00" + b"x" * 10_000, "text/html; " + "y" * 1000, "")
    assert shown.startswith("content type text/html; yyy")
    assert "beginning with “<html>" in shown
    assert len(shown) < 300
    assert shown.isprintable()
    assert describe(b"", "", "zstd") == "content type missing, content encoding zstd, with no content"


@pytest.mark.parametrize("text", ['a"b', "a\\", 'a\\"{', "}{", "\\\\"])
def test_braces_and_quotes_in_texts_do_not_split_objects(text: str) -> None:
    body = json.dumps({"text": text, "more": {"deep": [{"x": text}]}}).encode()
    scanner = ObjectScanner()
    found = [one for byte in body + b"," + body for one in scanner.feed(bytes([byte]))]
    assert found == [body, body]
    assert scanner.held == b""
