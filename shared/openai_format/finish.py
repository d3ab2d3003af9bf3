"""Gemini's finish reasons as OpenAI's. Pure.

    Gemini                                     OpenAI            the caller gets
    STOP                                       stop, tool_calls  the answer
    MAX_TOKENS, CONTINUATION                   length            the answer so far
    SAFETY and all that withhold an answer     content_filter    the answer so far; `refusal` names Gemini's reason
    MALFORMED_FUNCTION_CALL and other faults   -                 an error 502: the answer cannot be used

A reason that is not known is one that withholds: `refusal` shows its name, and nothing passes for a whole answer.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from shared.errors import EmptyResponse, GatewayError, UpstreamFailed
from shared.gemini import wire
from shared.generation import JsonObject

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]

ENDS: dict[str, FinishReason] = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
WITHHELD = {
    "SAFETY": "its safety settings withhold the rest",
    "RECITATION": "the answer resembles a published text too closely",
    "LANGUAGE": "it does not support this language",
    "OTHER": "it gave no details",
    "BLOCKLIST": "the answer has a forbidden term",
    "PROHIBITED_CONTENT": "the content is prohibited",
    "SPII": "the answer has sensitive personal data",
    "IMAGE_SAFETY": "the image is unsafe",
    "IMAGE_PROHIBITED_CONTENT": "the image has prohibited content",
    "IMAGE_OTHER": "the image could not be made",
    "IMAGE_RECITATION": "the image resembles a published one too closely",
    "NO_IMAGE": "it made no image",
    "ESCALATION": "a rule of Google's filtered the request",
    "MODEL_ARMOR": "Model Armor blocked the answer",
    "PUP_LIMITED_DISABLED": "Google limits this account for violations of its use policy",
}
FAULTS = {
    "MALFORMED_FUNCTION_CALL": "it wrote a tool call that is not valid; send the request again, or simplify the tools",
    "UNEXPECTED_TOOL_CALL": "it called a tool that the request does not declare; send the request again, or name its tools",
    "MALFORMED_RESPONSE": "its answer is not valid; send the request again",
    "TOO_MANY_TOOL_CALLS": "it called too many tools before an answer; change the prompt or the tools",
    "MISSING_THOUGHT_SIGNATURE": "a tool call of the conversation has lost its thought signature; begin a new conversation",
}
_NO_RETRY = frozenset({"TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"})
"""The same request ends in the same way."""


class Finish(NamedTuple):
    reason: FinishReason
    refusal: str | None = None
    """Why Gemini withheld an answer or the rest of it, as a sentence."""


def finish_of(body: JsonObject, *, has_content: bool, has_calls: bool) -> Finish:
    """How an answer, or the frame that ends a stream, has ended. `has_content` and `has_calls`: what has arrived until then.
    Raises UpstreamFailed, EmptyResponse."""
    blocked = wire.block_reason(body)
    if blocked and not wire.candidates(body):
        text = f"Gemini blocked the prompt ({blocked}); change the prompt. {wire.block_message(body)}"
        return Finish("content_filter", text.strip())
    reason = wire.finish_reason(body)
    if reason is None:
        if not has_content and not has_calls:
            raise EmptyResponse("Gemini returned neither content nor a reason; send the request again.")
        return Finish("tool_calls" if has_calls else "stop")
    if reason in FAULTS:
        raise _fault(reason, wire.finish_message(body))
    end = ENDS.get(reason)
    if end is not None:
        return Finish("tool_calls" if end == "stop" and has_calls else end)
    why = WITHHELD.get(reason, "it gave a reason that this server does not know")
    text = f"Gemini stopped, because {why} (finish reason {reason[:_MAX_REASON_CHARS]}). {wire.finish_message(body)}"
    return Finish("content_filter", text.strip())


_MAX_REASON_CHARS = 64


def _fault(reason: str, message: str) -> GatewayError:
    return UpstreamFailed(
        f"Gemini stopped, because {FAULTS[reason]} (finish reason {reason}). {message}".strip(),
        details={"finish_reason": reason},
        headers={"x-should-retry": "false"} if reason in _NO_RETRY else None,
    )
