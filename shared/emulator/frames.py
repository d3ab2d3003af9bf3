"""An answer in Google's response shape: one document or the frames of a stream, and their encoding as bytes."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from typing import Any

import orjson

from .answers import Answer, Candidate, Image

_MIN_PIECE = 40
_MAX_PIECES = 64
_RATED = (
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)

# Frames of a stream have a space after a colon and none after a comma, as recorded from Google.
_frame_json = json.JSONEncoder(separators=(",", ": "), ensure_ascii=False).encode


def response_id() -> str:
    return base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")


def document_bytes(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def sse_bytes(frame: dict[str, Any]) -> bytes:
    return f"data: {_frame_json(frame)}\r\n\r\n".encode()


def array_bytes(frames: list[dict[str, Any]]) -> list[bytes]:
    """The chunks of a stream without `alt=sse`: one JSON array, an element a chunk."""
    chunks = [orjson.dumps(frame, option=orjson.OPT_INDENT_2) for frame in frames]
    last = len(chunks) - 1
    return [
        (b"[" if i == 0 else b",\r\n") + chunk + (b"\n]\n" if i == last else b"\n") for i, chunk in enumerate(chunks)
    ]


def document(answer: Answer, model_version: str) -> dict[str, Any]:
    """The GenerateContentResponse of a unary call."""
    candidates = [_candidate(_parts(one), one, index, ends=True) for index, one in enumerate(answer.candidates)]
    return _response(answer, candidates, _total(answer), model_version, response_id())


def stream(answer: Answer, model_version: str) -> list[dict[str, Any]]:
    """The responses of a streamed call: each has usage and the same id, the last one of a candidate its finish reason."""
    name, total = response_id(), _total(answer)
    frames, sent = [], 0
    for index, candidate in enumerate(answer.candidates):
        pieces = list(_stream_parts(candidate, answer.frames))
        unbilled = 1 if candidate.thought else 0
        for number, parts in enumerate(pieces, 1):
            shown = _candidate(parts, candidate, index, ends=number == len(pieces))
            count = sent + candidate.tokens * (number - unbilled) // max(1, len(pieces) - unbilled)
            frames.append(_response(answer, [shown], count, model_version, name))
        sent += candidate.tokens
    if answer.traffic_type:
        for frame in frames[:-1]:
            frame["usageMetadata"] = {"trafficType": answer.traffic_type}
    return frames or [_response(answer, [], total, model_version, name)]


def _total(answer: Answer) -> int:
    return sum(candidate.tokens for candidate in answer.candidates)


def _parts(candidate: Candidate) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if candidate.thought:
        parts.append({"text": candidate.thought, "thought": True})
    if candidate.text:
        parts.append({"text": candidate.text})
    if candidate.image is not None:
        parts.append(_image(candidate.image))
    parts += ({"functionCall": call} for call in candidate.calls)
    if candidate.signature and parts:
        # Of parallel calls only the first one is signed.
        parts[-max(1, len(candidate.calls))]["thoughtSignature"] = candidate.signature
    return parts


def _image(image: Image) -> dict[str, Any]:
    data = base64.b64encode(image.data).decode()
    if image.base64url:
        data = data.translate({ord("+"): "-", ord("/"): "_"}).rstrip("=")
    return {"inlineData": {"mimeType": image.mime_type, "data": data}}


def _stream_parts(candidate: Candidate, count: int | None) -> Iterator[list[dict[str, Any]]]:
    if candidate.thought:
        yield [{"text": candidate.thought, "thought": True}]
    if candidate.image is not None:
        # An image is sent in one frame, after any text.
        yield from ([{"text": piece}] for piece in _pieces(candidate.text, count))
        yield [_image(candidate.image)]
        yield [{"text": "", "thoughtSignature": candidate.signature} if candidate.signature else {"text": ""}]
        return
    if candidate.calls:
        yield [{"functionCall": candidate.calls[0], "thoughtSignature": candidate.signature}]
        yield from ([{"functionCall": call}] for call in candidate.calls[1:])
    elif not candidate.text:
        yield []
        return
    yield from ([{"text": piece}] for piece in _pieces(candidate.text, count))
    # Google ends with an empty text that holds the signature and the finish reason.
    last = {"text": ""}
    yield [last | {"thoughtSignature": candidate.signature} if candidate.signature and not candidate.calls else last]


def _pieces(text: str, count: int | None) -> list[str]:
    """The text cut before words, into at most `_MAX_PIECES` pieces; or into equal ones, so that it has `count` frames with the
    last one, which has no text."""
    if count is not None and text:
        ends = [len(text) * number // max(1, count - 1) for number in range(1, max(1, count - 1) + 1)]
        return [text[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]
    size = max(_MIN_PIECE, -(-len(text) // (_MAX_PIECES // 2)))
    pieces, start = [], 0
    while len(text) - start > size:
        space = text.rfind(" ", start + 1, start + size)
        end = space if space > start + size // 2 else start + size
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]] if text else []


def _candidate(parts: list[dict[str, Any]], candidate: Candidate, index: int, *, ends: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if candidate.blocked:
        shown["safetyRatings"] = _ratings()
    else:
        shown["content"] = {"parts": parts, "role": "model"} if parts else {"role": "model"}
    if ends:
        shown["finishReason"] = candidate.finish_reason
        if candidate.finish_message:
            shown["finishMessage"] = candidate.finish_message
    shown["index"] = index
    return shown


def _ratings() -> list[dict[str, Any]]:
    ratings: list[dict[str, Any]] = [{"category": name, "probability": "NEGLIGIBLE"} for name in _RATED]
    ratings[-1] |= {"probability": "HIGH", "blocked": True}
    return ratings


def _response(
    answer: Answer, candidates: list[dict[str, Any]], count: int, model_version: str, name: str
) -> dict[str, Any]:
    response: dict[str, Any] = {}
    if candidates:
        response["candidates"] = candidates
    if answer.block_reason:
        response["promptFeedback"] = {"blockReason": answer.block_reason, "safetyRatings": _ratings()}
    response["usageMetadata"] = _usage(answer, count)
    response["modelVersion"] = model_version
    response["responseId"] = name
    return response


def _usage(answer: Answer, count: int) -> dict[str, Any]:
    prompt = sum(answer.prompt_tokens.values())
    usage: dict[str, Any] = {"promptTokenCount": prompt}
    if count:
        usage["candidatesTokenCount"] = count
    usage["totalTokenCount"] = prompt + count + answer.thought_tokens
    usage["promptTokensDetails"] = token_details(answer.prompt_tokens)
    images = sum(candidate.image.tokens for candidate in answer.candidates if candidate.image is not None)
    if images and count >= images:
        usage["candidatesTokensDetails"] = token_details({"TEXT": count - images, "IMAGE": images})
    if answer.thought_tokens:
        usage["thoughtsTokenCount"] = answer.thought_tokens
    usage |= {"trafficType": answer.traffic_type} if answer.traffic_type else {"serviceTier": "standard"}
    return usage


def token_details(counts: Any) -> list[dict[str, Any]]:
    return [{"modality": modality, "tokenCount": count} for modality, count in counts.items() if count]
