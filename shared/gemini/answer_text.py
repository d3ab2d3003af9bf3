"""The text of a generateContent answer, or the error that says why there is none. Pure."""

from __future__ import annotations

from shared.errors import EmptyResponse, GatewayError, PromptBlocked, ResponseBlocked
from shared.gemini import wire
from shared.generation import JsonObject


def answer_text(body: JsonObject) -> str:
    """The text of a native answer, never "". Raises PromptBlocked, ResponseBlocked, EmptyResponse."""
    reject_blocked_prompt(body)
    text = wire.text_of(body)
    if not text:
        raise missing_text(wire.finish_reason(body))
    return text


def reject_blocked_prompt(body: JsonObject) -> None:
    """Raises PromptBlocked."""
    reason = wire.block_reason(body)
    if reason and not wire.candidates(body):
        raise PromptBlocked(
            f"Gemini blocked the prompt ({reason}); change the prompt or safety_settings. {wire.block_message(body)}".strip(),
            details={"block_reason": reason},
        )


def missing_text(reason: str | None) -> GatewayError:
    """The error for an answer without text that ended for `reason`."""
    details = {"finish_reason": reason}
    if reason == "MAX_TOKENS":
        return EmptyResponse(
            "Gemini reached the token limit (MAX_TOKENS) before any text; raise generation_config.max_output_tokens "
            "(thinking tokens count as output).",
            details=details,
        )
    if reason in (None, "STOP", "FINISH_REASON_UNSPECIFIED"):
        return EmptyResponse(
            f"Gemini returned no text (finish reason {reason or 'missing'}); change the prompt, or retry.",
            details=details,
        )
    return ResponseBlocked(
        f"Gemini stopped before any text (finish reason {reason}); change the prompt or safety_settings.",
        details=details,
    )
