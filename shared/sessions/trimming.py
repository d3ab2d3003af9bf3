"""How much of a session's history goes to Gemini: as many of its newest turns as the model takes. Pure.

An estimate that is certainly high enough decides where it can. Near the limit Gemini counts: an estimate for prose is about twice
too high, and would leave half of the model's room unused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from shared.gemini.tokens import CONTENT_TOKENS, PART_TOKENS, REQUEST_TOKENS, media_tokens, text_tokens
from shared.generation import JsonObject
from shared.sessions.session import FileRef, TurnEntry

HIGH_BY = 4
"""An estimate is at most so many times too high."""
MAX_COUNTS = 3
_MARGIN = 0.97
"""After Gemini has counted, turns are dropped until this share of the limit is used by its count's ratio to the estimate: the
turns differ in theirs."""

Count = Callable[[int], Awaitable[int | None]]
"""Gemini's count of the tokens of the turns from this index on; None if there is none now."""


def without_rejected(turns: Sequence[TurnEntry], rejected: Collection[str]) -> list[TurnEntry]:
    """The turns without those whose content Gemini rejected: every later request with it would be rejected too. Messages without
    an answer were in one request, so they are left out together. `rejected`: ids of turns; the newest turn always stays."""
    kept: list[TurnEntry] = []
    unanswered: list[TurnEntry] = []
    for turn in turns[:-1]:
        unanswered.append(turn)
        if turn.turn in rejected:
            unanswered = []
        elif turn.answer is not None:
            kept += unanswered
            unanswered = []
    return [*kept, *unanswered, *turns[-1:]]


def text_cost(turn: TurnEntry) -> float:
    """The estimate for a turn's message and answer."""
    answer = "" if turn.answer is None else turn.answer.text
    return 2 * (CONTENT_TOKENS + PART_TOKENS) + text_tokens(turn.text) + text_tokens(answer)


def file_cost(turn: TurnEntry) -> int:
    """The estimate for a turn's files. A long video's is several times too high, so that the next message would be sent without
    it: Gemini's count of the turn's whole request is a better bound, once it is known."""
    estimate = sum(PART_TOKENS + media_tokens(file.mime_type, file.size_bytes) for file in turn.files)
    counted = None if turn.answer is None else turn.answer.usage.prompt_tokens
    return estimate if counted is None else min(estimate, counted)


async def first_fitting(costs: Sequence[float], limit: float, count: Count) -> int:
    """The index of the oldest turn that is sent; the newest one always is. `costs`: the turns' estimates, in their order."""
    left = _left_from(costs)
    if left[0] <= limit - REQUEST_TOKENS:
        return 0
    first = _first_within(left, HIGH_BY * limit)
    for _ in range(MAX_COUNTS):
        counted = await count(first)
        if counted is None:
            break
        if counted <= limit or first == len(costs) - 1:
            return first
        first = max(first + 1, _first_within(left, _MARGIN * limit * left[first] / counted))
    return _first_within(left, limit - REQUEST_TOKENS)


def contents(turns: Sequence[TurnEntry], parts: Mapping[str, JsonObject]) -> list[JsonObject]:
    """The turns as native contents. `parts`: the stored files, by their ids. Messages without an answer are joined with the next
    one, since roles alternate; an answer that was stopped or interrupted counts as far as it went."""
    result: list[JsonObject] = []
    for turn in turns:
        sent = [
            *(parts.get(file.id) or _gone(file) for file in turn.files),
            *([{"text": turn.text}] if turn.text else []),
        ]
        if result and result[-1]["role"] == "user":
            result[-1]["parts"] += sent
        else:
            result.append({"role": "user", "parts": sent})
        if turn.answer is not None and turn.answer.text:
            result.append({"role": "model", "parts": [{"text": turn.answer.text}]})
    return result


def _gone(file: FileRef) -> JsonObject:
    return {"text": f"[The file {file.name} is no longer stored.]"}


def _left_from(costs: Sequence[float]) -> list[float]:
    """For each turn the sum of its cost and of all later ones."""
    left, total = [0.0] * len(costs), 0.0
    for at in range(len(costs) - 1, -1, -1):
        total += costs[at]
        left[at] = total
    return left


def _first_within(left: Sequence[float], limit: float) -> int:
    return next((at for at, cost in enumerate(left) if cost <= limit), len(left) - 1)
