"""The events of a turn, each with its id, as a browser's EventSource reads them. Pure.

message      the next part of the answer: the text itself, not JSON. A page appends `event.data` to what it shows; pages of the
             chat backend that this one replaces do just that
usage        the tokens that Gemini counted
done         {"done": true, "state": "done" or "stopped", "model", "finish_reason"}: the last event
interrupted  in place of `done`: the answer ends before its end
error        in place of `done`: {"error"} ended the answer
"""

from __future__ import annotations

import re

from shared.generation import JsonObject, Usage
from shared.http.event_stream import NamedEvent, named_event
from shared.sessions.session import Answer
from shared.sessions.turn import END_AT, USAGE_AT, EventId

_LINE_END = re.compile(r"\r\n|\r|\n")
"""What ends a line of server-sent events."""
_INTERRUPTED = (
    "The answer was interrupted, and the session keeps the text so far. Send a message that asks for the rest, or the same "
    "message again."
)


def message_event(turn: str, text: str, end: int) -> bytes:
    """`end`: the position after `text`. Each line of the text is a field of its own; a reader joins them with line feeds."""
    lines = "".join(f"data: {line}\n" for line in _LINE_END.split(text))
    return f"id: {EventId(turn, end)}\nevent: message\n{lines}\n".encode()


def error_event(turn: str, data: JsonObject) -> bytes:
    """`data` has `error`."""
    return _event(turn, END_AT, "error", data)


def last_events(turn: str, answer: Answer) -> list[tuple[int, bytes]]:
    """The events after the text, each with its position."""
    usage: Usage = answer.usage
    events = []
    if any(count is not None for count in usage):
        events.append((USAGE_AT, _event(turn, USAGE_AT, "usage", usage._asdict())))
    if answer.error is not None:
        end = error_event(turn, {"error": answer.error})
    elif answer.state == "interrupted":
        end = _event(turn, END_AT, "interrupted", {"state": answer.state, "message": _INTERRUPTED})
    else:
        ending = {"model": answer.model, "finish_reason": answer.finish_reason}
        end = _event(turn, END_AT, "done", {"done": True, "state": answer.state, **ending})
    return [*events, (END_AT, end)]


def _event(turn: str, position: int, name: str, data: JsonObject) -> bytes:
    return named_event(NamedEvent(data, name, str(EventId(turn, position))))
