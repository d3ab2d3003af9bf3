"""Judges whether Gemini was probed as specified while it refused, and requests were served again soon after. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from shared.ledger.limits import Limits
from tests.simulation.history import Exchange, History, Spell
from tests.simulation.verdict import Verdict

ASKED, AGAIN, SERVED = "asked while stopped", "asked again late by ms", "served again late by ms"
PAUSES = {"zero": (15, 1, 15), "lower": (10, 2, 1_440), "spend": (1, 2, 10)}
"""The first pause in windows, its factor for each refused probe, and the longest; as promised, not as `circuit.RULES` has it."""
IN_A_ROW = 3
"""So many rejections of a quota per minute exhaust a model; then it is probed every 15 windows."""
SLACK_MS = 2_500.0
"""Allowance for a caller that returns at its Retry-After, and for a call to the store."""


def spells_judged(history: History) -> Iterator[Verdict]:
    for spell in history.spells:
        mine = sorted(
            (e for e in history.exchanges if e.project == spell.project and spell.model in (e.model, "")),
            key=lambda e: e.arrived_ms,
        )
        refused = [e for e in mine if e.status == 429 and spell.from_ms <= e.arrived_ms < spell.until_ms]
        if not refused:
            continue
        rounds = list(_rounds(refused, history.window_ms))
        yield _asked_while_stopped(history, spell, mine, rounds)
        yield _asked_again(history, spell, rounds)
        if spell.relents:
            yield _served_again(history, spell, mine, rounds)


def _rounds(refused: Sequence[Exchange], window_ms: float) -> Iterator[list[Exchange]]:
    """Refusals within a window of a round's first belong to that round: they were under way when it began."""
    found: list[Exchange] = []
    for exchange in refused:
        if found and exchange.arrived_ms - found[0].arrived_ms >= window_ms:
            yield found
            found = []
        found.append(exchange)
    yield found


def _pauses(history: History, spell: Spell, count: int) -> list[float]:
    """The pause after each round."""
    if spell.kind == "day":
        return [spell.until_ms - spell.from_ms] * count
    if spell.kind == "rate":
        return [history.window_ms * (1 if at < IN_A_ROW - 1 else 15) for at in range(count)]
    if spell.kind == "spend" and spell.delay_s is not None:
        return [1000 * spell.delay_s] * count
    first, growth, longest = PAUSES[spell.kind]
    return [history.window_ms * min(longest, first * growth**at) for at in range(count)]


def _asked_while_stopped(
    history: History, spell: Spell, mine: Sequence[Exchange], rounds: Sequence[Sequence[Exchange]]
) -> Verdict:
    """Requests that arrived in a pause, after what was under way; for a lower limit those that were refused in it. Of the
    round that ends a pause only the probe is allowed."""
    pauses, early = _pauses(history, spell, len(rounds)), []
    counted = mine if spell.kind != "lower" else [e for one in rounds for e in one]
    for pause_ms, one in zip(pauses, rounds, strict=True):
        began_ms = one[0].arrived_ms
        until_ms = min(began_ms + pause_ms, spell.until_ms)
        grace_ms = min(history.window_ms, pause_ms / 2)
        early += [e for e in counted if began_ms + grace_ms <= e.arrived_ms < until_ms]
        if spell.kind != "lower" and one is not rounds[0]:
            early += [e for e in mine if began_ms < e.arrived_ms < began_ms + grace_ms]
    where = f"{spell.kind}: {[round(e.arrived_ms - spell.from_ms) for e in early[:5]]} ms after its beginning"
    return Verdict(ASKED, ok=not early, worst=len(early), limit=0, where=where)


def _asked_again(history: History, spell: Spell, rounds: Sequence[Sequence[Exchange]]) -> Verdict:
    """How long after a pause and a window the next probe came; of a lower limit two windows, until it is reached."""
    pauses = _pauses(history, spell, len(rounds))
    began = [one[0].arrived_ms for one in rounds]
    spare_ms = history.window_ms * (3 if spell.kind == "lower" else 1) + SLACK_MS
    late = [after - before - pause_ms for (before, after), pause_ms in zip(pairwise(began), pauses, strict=False)]
    late.append(spell.until_ms - began[-1] - pauses[-1])
    worst = max(0.0, *late)
    return Verdict(AGAIN, ok=worst <= spare_ms, worst=worst, limit=spare_ms, where=f"{spell.kind}: {began}")


def _served_again(
    history: History, spell: Spell, mine: Sequence[Exchange], rounds: Sequence[Sequence[Exchange]]
) -> Verdict:
    """How long after the spell requests were served as before: a pause, and for a lower limit the test and the rise."""
    pause_ms = _pauses(history, spell, len(rounds))[-1]
    within_ms = history.window_ms + SLACK_MS
    if spell.kind != "day":
        within_ms += pause_ms
    if spell.kind == "lower":
        within_ms += 13 * history.window_ms
    served = [e for e in mine if e.status == 200 and e.arrived_ms >= spell.until_ms]
    if spell.kind == "lower":
        served = _whole_windows(history, spell, served)
    late_ms = served[0].arrived_ms - spell.until_ms if served else float("inf")
    return Verdict(SERVED, ok=late_ms <= within_ms, worst=late_ms, limit=within_ms, where=spell.kind)


def _whole_windows(history: History, spell: Spell, served: Sequence[Exchange]) -> list[Exchange]:
    """The last request of each window that holds nearly the configured limit."""
    limits = next((b.limits for b in history.bounds if (b.project, b.model) == (spell.project, spell.model)), Limits())
    found = []
    for at, last in enumerate(served):
        within = [e for e in served[: at + 1] if e.arrived_ms > last.arrived_ms - history.window_ms]
        requests, tokens = len(within), sum(e.used_tokens for e in within)
        if requests >= 0.8 * (limits.requests or 1) and tokens >= 0.7 * (limits.input_tokens or 0):
            found.append(last)
    return found
