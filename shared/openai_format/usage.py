"""Token counts in OpenAI's format. What Gemini did not count is null: unknown is not zero. Pure."""

from __future__ import annotations

from shared.generation import JsonObject, Usage


def usage_body(usage: Usage, cached_tokens: int | None) -> JsonObject:
    """`completion_tokens` has the thinking tokens, as OpenAI counts its reasoning tokens. `cached_tokens`: of the prompt."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": sum_or_unknown(usage.output_tokens, usage.thinking_tokens),
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.thinking_tokens},
    }


def sum_or_unknown(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
