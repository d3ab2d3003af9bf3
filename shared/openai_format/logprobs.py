"""The log probabilities of an answer's tokens in OpenAI's format. Pure."""

from __future__ import annotations

from typing import Any

from shared.gemini import wire
from shared.generation import JsonObject


def logprobs_body(body: JsonObject) -> JsonObject | None:
    """Of candidate 0; None if Gemini sent none."""
    result = (wire.first_candidate(body) or {}).get("logprobsResult")
    if type(result) is not dict:
        return None
    steps = [step.get("candidates") if type(step) is dict else None for step in _list(result.get("topCandidates"))]
    tokens = []
    for at, chosen in enumerate(_list(result.get("chosenCandidates"))):
        if (token := _token(chosen)) is not None:
            others = _list(steps[at]) if at < len(steps) else []
            tokens.append({**token, "top_logprobs": [one for one in map(_token, others) if one is not None]})
    return {"content": tokens, "refusal": None} if tokens else None


def _list(value: Any) -> list[Any]:
    return value if type(value) is list else []


def _token(one: Any) -> JsonObject | None:
    """Google's JSON omits zeros: a token without a probability is certain."""
    if type(one) is not dict or type(text := one.get("token")) is not str:
        return None
    probability = one.get("logProbability", 0.0)
    if type(probability) is not float and type(probability) is not int:
        return None
    return {"token": text, "bytes": list(text.encode()), "logprob": probability}
