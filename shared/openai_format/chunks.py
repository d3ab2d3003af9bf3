"""The chunks of a streamed chat completion, as the bytes of server-sent events. Pure.

All chunks of a choice are alike but for their delta, so what surrounds it is encoded once (1 us a chunk instead of 4).
Types: ChatCompletionChunk of openai-python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from shared.generation import JsonObject
from shared.openai_format.answer import Contents, Head, Link, image_body, markdown, tool_call_body
from shared.openai_format.finish import Finish

DONE = b"data: [DONE]\n\n"
"""Ends a stream that is complete. openai-python takes a stream without it for complete as well, unless it ends with an error."""


class Chunks:
    """The chunks of one choice."""

    def __init__(self, head: Head, index: int = 0, *, usage: bool = False, reasoning: bool = False) -> None:
        """`usage`: the stream ends with a chunk that has the usage, so each other chunk has the field as null. `reasoning`: the
        caller gets the thoughts."""
        self._reasoning = reasoning
        self._start = _start(head) + b',"choices":[{"index":%d,"delta":' % index
        self._end = b'}],"usage":null}\n\n' if usage else b"}]}\n\n"
        self._open_end = b',"logprobs":null,"finish_reason":null' + self._end
        self._begun = False
        self.calls = 0
        """Tool calls so far."""
        self.has_content = False

    def of_contents(
        self,
        contents: Contents,
        call_ids: Sequence[str] = (),
        links: Sequence[Link] = (),
    ) -> bytes:
        """What one frame has; b"" if it has nothing for the caller. `call_ids` has one id for each of its calls,
        `links` one link for each of its blobs."""
        of_blobs = iter(links)
        deltas: list[JsonObject] = []
        if contents.thoughts and self._reasoning:
            deltas.append({"reasoning_content": contents.thoughts})
        for piece in contents.pieces:
            if isinstance(piece, str):
                deltas.append({"content": piece})
            else:
                link = next(of_blobs)
                deltas.append({"content": markdown(link), "images": [image_body(link)]})
        for call, call_id in zip(contents.calls, call_ids, strict=True):
            deltas.append({"tool_calls": [{"index": self.calls, **tool_call_body(call, call_id)}]})
            self.calls += 1
        self.has_content = self.has_content or contents.has_content
        if not deltas:
            return b""
        first = b"" if self._begun else self._first(None if contents.calls and not contents.pieces else "")
        return first + b"".join(map(self._chunk, deltas))

    def of_end(self, finish: Finish) -> bytes:
        """The choice's last chunk, which has its finish reason."""
        before = b"" if self._begun else self._first(None if finish.refusal else "")
        if finish.refusal is not None:
            before += self._chunk({"refusal": finish.refusal})
        return before + self._start + b'{},"logprobs":null,"finish_reason":"%b"' % finish.reason.encode() + self._end

    def _first(self, content: str | None) -> bytes:
        self._begun = True
        return self._chunk({"role": "assistant", "content": content, "refusal": None})

    def _chunk(self, delta: JsonObject) -> bytes:
        return self._start + orjson.dumps(delta) + self._open_end


def usage_chunk(head: Head, usage: JsonObject) -> bytes:
    """The last chunk of a stream whose caller asked for the usage."""
    return _start(head) + b',"choices":[],"usage":' + orjson.dumps(usage) + b"}\n\n"


def _start(head: Head) -> bytes:
    fields: dict[str, Any] = {
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created_s,
        "model": head.model,
    }
    return b"data: " + orjson.dumps(fields)[:-1]
