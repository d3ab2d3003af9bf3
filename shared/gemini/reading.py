"""Reads an answer however it is wrapped: bytes in, native JSON objects out. Pure.

An answer under HTTP 200 was paid for, and proxies between Gemini and this gateway may wrap it: a byte order mark, a
compression, server-sent events for a unary call, a JSON array or one object for a stream, an end marker, a stray tail,
characters cut in half. Everything readable is read; otherwise there is one error that describes the received bytes.

The usual form costs nothing extra: one `orjson.loads` of a unary body or of an event's data.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import deque
from collections.abc import Callable

import orjson

from shared.bounds.json_structure import MAX_VALUES, TooManyValues, ValueCounter, check_values
from shared.gemini import wire
from shared.gemini.decoding import Decoder, TooLong, Undecodable
from shared.gemini.merging import merged
from shared.gemini.objects import ObjectScanner
from shared.gemini.sse import EventTooLarge, SseParser
from shared.gemini.surrogates import Halves
from shared.generation import JsonObject

MAX_EXCERPT_BYTES = 120
_HEAD_BYTES = 1024
"""The first bytes of an answer, kept for the error that describes it."""

MAX_STREAM_VALUES = 10 * MAX_VALUES
"""Maximum values over all parts of an answer that is not a stream of plain events: its objects are found by their braces."""
_PLAIN_EVENTS = b"data: {"
_JSON_GUARD = b")]}'"
"""Google's own prefix against inclusion as a script."""
_MARKS = (_JSON_GUARD, codecs.BOM_UTF8)
_MAX_UNDECIDED_BYTES = 64
_BLANK = b" \t\r\n\0"
_END_MARKER = re.compile(rb"\[\s*done\s*\]", re.IGNORECASE)
_MAX_INT_CHARS = 20
Translate = Callable[[JsonObject], JsonObject | None]
"""Makes a native frame of an object of another API; None for an object that adds nothing to the answer."""

_PROMPT = -1
"""Used in place of a candidate's index if the prompt was blocked."""


def _significant(start: bytes) -> bytes:
    """`start` without white space and marks before the answer."""
    for mark in _MARKS:
        start = start.lstrip(_BLANK).removeprefix(mark)
    return start.lstrip(_BLANK)


class Unreadable(Exception):
    """An answer, or a part of it, that is not native JSON in any known wrapping. `cut_short`: it seems to have ended too
    early; without a declared length, the connection was cut. `head`: its first bytes, decoded."""

    def __init__(self, message: str, *, cut_short: bool = False) -> None:
        super().__init__(message)
        self.cut_short = cut_short
        self.head = b""


class AnswerReader:
    """Returns the frames of one answer as soon as their bytes have arrived."""

    def __init__(
        self,
        content_encoding: str,
        max_bytes: int,
        max_values: int | None = None,
        translate: Translate | None = None,
    ) -> None:
        """`content_encoding` is the answer's header, "" if it has none; `max_bytes` bounds the decoded answer. `translate` is
        for answers of another API than the native one."""
        self._translate = translate
        self._encoding = content_encoding
        self._max_bytes = max_bytes
        self._decoder: Decoder | None = None
        self._events: SseParser | None = None
        self._objects: ObjectScanner | None = None
        self._undecided = b""
        self._started = False
        self._values = ValueCounter(MAX_STREAM_VALUES if max_values is None else max_values)
        self._payloads: deque[bytes] = deque()
        self._unended: bytes | None = None
        self._frames: deque[JsonObject] = deque()
        self._halves: Halves | None = None
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._raw_head = b""
        self._head = b""
        self.is_object = False
        """Whether the body begins with an object, and not with an array or an event."""

    @property
    def head(self) -> bytes:
        """The first bytes of the answer; decoded, if any could be."""
        return self._head or self._raw_head

    @property
    def begun(self) -> bool:
        """Whether a candidate has arrived, or the reason why the prompt was blocked."""
        return bool(self._begun)

    @property
    def complete(self) -> bool:
        """Whether every candidate that has arrived has finished, and candidate 0 is among them, or the prompt was blocked."""
        return self._begun == self._finished and not self._begun.isdisjoint((0, _PROMPT))

    def feed(self, chunk: bytes) -> None:
        """Raises Unreadable if nothing after this chunk can be read."""
        try:
            if self._decoder is None and self._events is not None and self._begun:
                # The usual case, after the first frame.
                self._payloads.extend(self._events.feed(chunk))
                return
            if not self._started:
                chunk = self._start(chunk)
            elif self._decoder is not None:
                chunk = self._decoder.feed(chunk)
            self._split(chunk)
        except (EventTooLarge, Undecodable, TooLong) as error:
            raise Unreadable(str(error)) from None
        except TooManyValues as error:
            raise Unreadable(f"It has {error}.") from None

    def end(self) -> None:
        """Call after the last bytes. A complete last event counts even without its blank line."""
        try:
            if self._decoder is not None:
                self._split(self._decoder.end())
            if self._undecided:
                self._decide(_significant(self._undecided))
            if self._events is not None:
                self._unended = self._events.end()
            elif self._objects is not None:
                self._unended = self._objects.held or None
        except EventTooLarge as error:
            raise Unreadable(str(error)) from None

    def next(self) -> JsonObject | None:
        """The next frame; None if there is none (yet). Raises Unreadable for a frame that is not JSON."""
        while True:
            if self._frames:
                return self._frames.popleft()
            if self._payloads:
                frame = self._read(self._payloads.popleft())
                if frame is not None:
                    return frame
                continue
            if self._unended is None:
                return None
            payload, self._unended = self._unended, None
            try:
                frame = self._read(payload)
            except Unreadable as error:
                raise Unreadable(str(error), cut_short=True) from None
            if frame is not None:
                return frame

    def last(self) -> JsonObject | None:
        """The rest of the text after the last frame, as a frame; None in almost every answer."""
        return None if self._halves is None else self._halves.last_frame()

    # -- bytes to payloads -------------------------------------------------------------------------------------------

    def _start(self, chunk: bytes) -> bytes:
        if not chunk:
            return chunk
        self._started = True
        self._raw_head = chunk[:_HEAD_BYTES]
        if not self._encoding and chunk.startswith(_PLAIN_EVENTS):
            self._events = SseParser()
            return chunk
        self._decoder = Decoder(self._encoding, self._max_bytes)
        return self._decoder.feed(chunk)

    def _split(self, chunk: bytes) -> None:
        self._values.feed(chunk)
        if not self._begun and len(self._head) < _HEAD_BYTES:
            self._head += chunk[: _HEAD_BYTES - len(self._head)]
        if self._events is not None:
            self._payloads.extend(self._events.feed(chunk))
        elif self._objects is not None:
            self._payloads.extend(self._objects.feed(chunk))
        elif chunk:
            start = self._undecided + chunk
            rest = _significant(start)
            if any(len(rest) < len(mark) and mark.startswith(rest) for mark in _MARKS):
                # A long run of white space is not kept.
                self._undecided = start if len(start) <= _MAX_UNDECIDED_BYTES else rest
            else:
                self._decide(rest)

    def _decide(self, start: bytes) -> None:
        """Chooses the reader by the body's first character."""
        self._undecided = b""
        if start[:1] in (b"{", b"["):
            self.is_object = start[:1] == b"{"
            self._objects = ObjectScanner()
            self._payloads.extend(self._objects.feed(start))
        else:
            self._events = SseParser()
            self._payloads.extend(self._events.feed(start))

    # -- payloads to frames ------------------------------------------------------------------------------------------

    def _read(self, payload: bytes) -> JsonObject | None:
        """The frame in `payload`; if the payload has another form, its frames are appended to `_frames`. Raises Unreadable."""
        try:
            check_values(payload)
            value = orjson.loads(payload)
        except TooManyValues as error:
            raise Unreadable(f"A part of it has {error}.") from None
        except orjson.JSONDecodeError:
            self._read_leniently(payload)
            return None
        if type(value) is dict:
            return self._followed(value)
        for item in value if type(value) is list else ():
            if type(item) is dict and (frame := self._followed(item)) is not None:
                self._frames.append(frame)
        return None

    def _followed(self, value: JsonObject) -> JsonObject | None:
        """The frame of a parsed object, translated and repaired. Records which candidates it starts and finishes."""
        frame = value if self._translate is None else self._translate(value)
        if frame is None:
            return None
        if self._halves is not None:
            frame = self._halves.repair(frame)
        for candidate in wire.candidates(frame):
            index = wire.candidate_index(candidate)
            self._begun.add(index)
            if "finishReason" in candidate and wire.finishes(candidate):
                self._finished.add(index)
        if "promptFeedback" in frame and wire.block_reason(frame) is not None:
            # A blocked prompt has no candidates: its reason ends the answer.
            self._begun.add(_PROMPT)
            self._finished.add(_PROMPT)
        return frame

    def _read_leniently(self, payload: bytes) -> None:
        """Reads objects with halves of characters, or with other text before, between or after them. Text that cannot be an
        object is skipped: an end marker, a word that keeps the connection alive."""
        payload = payload.strip(_BLANK)
        if payload[:1] not in (b"{", b"[") or _END_MARKER.match(payload):
            return
        if self._halves is None:
            self._halves = Halves()
        scanner = ObjectScanner()
        for found in scanner.feed(payload):
            value = _loads_leniently(found)
            if value is None:
                self._refuse_unless_stray(found)
            elif (frame := self._followed(value)) is not None:
                self._frames.append(frame)
        if scanner.held:
            self._refuse_unless_stray(scanner.held)

    def _refuse_unless_stray(self, piece: bytes) -> None:
        """Raises Unreadable unless the answer is complete without this piece, which is not JSON."""
        if not self.complete or b'"candidates"' in piece:
            raise Unreadable("A part of it is not JSON.")


def _int(digits: str) -> int | float:
    """The number as orjson reads it: an integer beyond 64 bits becomes a float."""
    value = int(digits) if len(digits) <= _MAX_INT_CHARS else 2**64
    return value if -(2**63) <= value < 2**64 else float(digits)


_lenient = json.JSONDecoder(strict=False, parse_int=_int, parse_constant=lambda _: None)
"""Also accepts halves of characters, control characters in strings, and NaN, which becomes null."""


def _loads_leniently(payload: bytes) -> JsonObject | None:
    """The object, which may contain halves of characters; None if it is not JSON."""
    try:
        text = payload.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = payload.decode("utf-8", "replace")
    try:
        value = _lenient.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if type(value) is dict else None


# -- whole bodies ----------------------------------------------------------------------------------------------------


def read_answer(body: bytes, content_encoding: str, max_bytes: int, translate: Translate | None = None) -> JsonObject:
    """The answer of a unary call, as an object. Frames of a stream are merged into one; an error among them is returned
    alone. `translate` is for answers of another API. Raises Unreadable."""
    if not content_encoding and translate is None:
        try:
            check_values(body)
            value = orjson.loads(body)
        except TooManyValues as error:
            unreadable = Unreadable(f"It has {error}.")
            unreadable.head = body[:_HEAD_BYTES]
            raise unreadable from None
        except orjson.JSONDecodeError:
            value = None
        if type(value) is dict:
            return value
    reader = AnswerReader(content_encoding, max_bytes, MAX_VALUES, translate)
    try:
        return _merged_answer(reader, body)
    except Unreadable as error:
        error.head = reader.head or body[:_HEAD_BYTES]
        raise


def _merged_answer(reader: AnswerReader, body: bytes) -> JsonObject:
    frames = _all_frames(reader, body)
    if not frames:
        raise Unreadable("It contains no JSON object.", cut_short=not body.strip())
    for frame in frames:
        if is_error(frame):
            return frame
    if reader.begun and not reader.complete and not (reader.is_object and len(frames) == 1):
        raise Unreadable("It ended before every candidate had a finish reason.", cut_short=True)
    last = reader.last()
    if last is not None:
        frames.append(last)
    return frames[0] if len(frames) == 1 else merged(frames)


def read_error_body(body: bytes, content_encoding: str) -> bytes:
    """The body of an error response as plain JSON; a body that is not JSON is only decoded."""
    if not content_encoding:
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError:
            pass
        else:
            return body
    reader = AnswerReader(content_encoding, 16 * len(body) + _HEAD_BYTES)
    try:
        frames = _all_frames(reader, body)
    except Unreadable:
        frames = []
    if not frames:
        return reader.head if content_encoding else body
    return orjson.dumps(next(filter(is_error, frames), frames[0]))


def is_error(frame: JsonObject) -> bool:
    """Whether Gemini reports an error, under whatever status."""
    return bool(frame.get("error")) and not wire.candidates(frame)


def _all_frames(reader: AnswerReader, body: bytes) -> list[JsonObject]:
    reader.feed(body)
    reader.end()
    frames = []
    while (frame := reader.next()) is not None:
        frames.append(frame)
    return frames


def describe(head: bytes, content_type: str, content_encoding: str) -> str:
    """Describes a received body for an error message: its types and its first characters."""
    shown = head[:MAX_EXCERPT_BYTES].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else " " for c in shown).strip()
    coding = f", content encoding {_word(content_encoding)}" if content_encoding else ""
    begin = f"beginning with “{shown}”" if shown else "with no content"
    return f"content type {_word(content_type) or 'missing'}{coding}, {begin}"


def _word(header: str) -> str:
    return "".join(c if c.isprintable() else " " for c in header[:80])
