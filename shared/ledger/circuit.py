"""The circuit breakers that 429s open: requests stop, and a probe finds out whether Gemini accepts them again. Pure.

A `Circuit` stops all requests to a model, or to the project's models for spend:

                       a refusal                        `open_until_ms` is over, and an instance claims the probe
          CLOSED ------------------------> OPEN -------------------------------------------------> HALF-OPEN
             ^                             ^  ^                                                     |  |   |
             |                             |  +------- the probe is refused: the next pause --------+  |   |
             |                             +--- PROBE_MS is over, or its instance ended: next claim ---+   |
             +-------------------------------- the probe is answered -------------------------------------+

Where a quota per minute is exhausted, the rejections in a row are counted: that of the request that opened the circuit, and those
of its probes. From `Exhaustion.rejections` on, a probe is sent every FULL_PAUSE windows; after `Exhaustion.full_wait` the count
begins anew.

A `Lowered` limit is a circuit of one dimension. Requests below it go on; its probe is one request beyond it:

                       a refusal that names less        `test_ms` is over: one more fits in a window
          CLOSED ------------------------> OPEN -----------------------------------------> HALF-OPEN
             ^                               ^                                                  |
             |                               +-------- refused: twice the pause ----------------+
             |                               |                                                  | not refused for a window
             +--- the configured limit ------+------------------ RISING <-----------------------+ after more was dispatched
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from shared.generation import Cost
from shared.ledger.grid import Grid
from shared.ledger.limits import PER_DAY_AT, Limit, Limits, dimension_of, smaller
from shared.ledger.slots import fresh
from shared.ledger.state import (
    AS_USUAL,
    Circuit,
    Demand,
    Exhaustion,
    InstanceLease,
    Kind,
    Lowered,
    ModelState,
    QuotaSignal,
    Reason,
    RenewRequest,
    State,
)

Phase = Literal["closed", "open", "half-open", "rising"]

PROBE_MS = 10_000
"""How long one instance may own the probe, including the wait for its answer."""
RISE_PERCENT = 10
"""Percentage of the configured limit by which a lowered one rises, at once and per window, after Gemini accepted more."""
MAX_SENTENCE_CHARS = 300
FULL_PAUSE = 15
"""Windows between two probes of a fully exhausted model."""


class Rule(NamedTuple):
    """How long a circuit opens for, in windows. Pauses grow only where Gemini names no time, or one that is not trusted."""

    rank: int
    """While a circuit is open, a refusal of a lower rank does not change it."""
    pause: int
    """The first pause."""
    growth: int = 1
    """The factor for each probe that is refused."""
    min_pause: int = 0
    max_pause: int = 0
    believes_delay: bool = False
    """Whether the delay that Gemini names is the pause."""


RULES: dict[Kind, Rule] = {
    "rate": Rule(0, pause=1, believes_delay=True),
    "lower": Rule(0, pause=10, growth=2, min_pause=10, max_pause=1_440),
    "day": Rule(1, pause=1, min_pause=1, max_pause=1),
    "zero": Rule(2, pause=15, min_pause=15, max_pause=15),
    "spend": Rule(3, pause=1, growth=2, min_pause=1, max_pause=10, believes_delay=True),
}
"""The refusal of a spent day carries its end, midnight Pacific; the pause is for the minutes after a midnight. The pauses of
`rate` are those of `Exhaustion`."""


def first_pause_ms(kind: Kind, window_ms: float, exhaustion: Exhaustion = AS_USUAL) -> float:
    return (exhaustion.wait if kind == "rate" else RULES[kind].pause) * window_ms


def next_pause_ms(kind: Kind, pause_ms: int, window_ms: int) -> int:
    """The pause after one of `pause_ms` whose probe was refused."""
    rule = RULES[kind]
    return min(rule.max_pause * window_ms, max(rule.min_pause * window_ms, rule.growth * pause_ms))


def sentence(text: str) -> str:
    """`text` as one line of at most MAX_SENTENCE_CHARS that UTF-8 can encode."""
    line = " ".join(text.encode(errors="replace").decode().split())
    return line if len(line) <= MAX_SENTENCE_CHARS else line[: MAX_SENTENCE_CHARS - 3].rstrip() + "..."


# -- a stop of all requests --------------------------------------------------------------------------------------------


def phase(circuit: Circuit, now_ms: int) -> Phase:
    if not circuit.open_until_ms:
        return "closed"
    return "open" if now_ms < circuit.open_until_ms else "half-open"


def open_circuit(
    circuit: Circuit, refusal: QuotaSignal, instance: str, now_ms: int, grid: Grid, exhaustion: Exhaustion = AS_USUAL
) -> None:
    """Record that Gemini rejected a request of `instance`: nothing more is dispatched until the rejection's end.

    A refusal that ended more than a window ago is ignored: its instance was suspended, and others were served since."""
    if now_ms - refusal.until_ms > grid.window_ms:
        return
    before, rule = phase(circuit, now_ms), RULES[refusal.kind]
    if before == "open" and rule.rank < RULES[circuit.kind].rank:
        return
    until_ms, pause_ms = refusal.until_ms, refusal.until_ms - now_ms
    # The time of a dispatch is the beginning of its slot, which may be before the circuit's end.
    after_ms = refusal.sent_ms + grid.slot_ms
    of_probe = before != "closed" and circuit.owner == instance and circuit.open_until_ms < after_ms
    if refusal.guessed and of_probe and refusal.kind == circuit.kind != "rate":
        pause_ms = next_pause_ms(refusal.kind, circuit.pause_ms, grid.window_ms)
        until_ms = now_ms + pause_ms
    elif refusal.guessed:
        # Part of the pause passed before the report arrived here; the next one is a multiple of the whole.
        pause_ms = int(first_pause_ms(refusal.kind, grid.window_ms, exhaustion))
    replaces = before == "open" and rule.rank > RULES[circuit.kind].rank
    if before == "closed" or replaces or circuit.kind != refusal.kind:
        circuit.rejections, circuit.since_ms = 0, now_ms
    if refusal.kind == "rate":
        if of_probe or not circuit.rejections:
            _count_rejection(circuit, now_ms, grid, exhaustion)
        if is_full(circuit, exhaustion) and before != "open":
            left_ms = full_until_ms(circuit, grid, exhaustion) - now_ms
            pause_ms = max(pause_ms, min(FULL_PAUSE * grid.window_ms, left_ms))
            until_ms = now_ms + pause_ms
    if until_ms > circuit.open_until_ms or replaces:
        circuit.kind, circuit.message = refusal.kind, sentence(refusal.message)
        circuit.open_until_ms, circuit.pause_ms = until_ms, max(0, pause_ms)
    if circuit.open_until_ms:
        circuit.refused_ms = max(circuit.refused_ms, refusal.sent_ms)
    if circuit.owner == instance or circuit.probe_ms <= circuit.open_until_ms:
        release(circuit)


def _count_rejection(circuit: Circuit, now_ms: int, grid: Grid, exhaustion: Exhaustion) -> None:
    was_full = is_full(circuit, exhaustion)
    if was_full and now_ms >= full_until_ms(circuit, grid, exhaustion):
        circuit.rejections, circuit.since_ms, was_full = 0, now_ms, False
    circuit.rejections += 1
    if is_full(circuit, exhaustion) and not was_full:
        circuit.since_ms = now_ms


def is_full(circuit: Circuit, exhaustion: Exhaustion) -> bool:
    """Whether the model is fully exhausted: so many requests were rejected in a row."""
    return circuit.rejections >= exhaustion.rejections


def full_until_ms(circuit: Circuit, grid: Grid, exhaustion: Exhaustion) -> int:
    """When a fully exhausted model is not any more, at the latest."""
    return circuit.since_ms + int(exhaustion.full_wait * grid.window_ms)


def release(circuit: Circuit) -> None:
    """The next instance may claim the probe."""
    circuit.owner, circuit.model, circuit.probe_ms = "", "", 0


def close(circuit: Circuit) -> None:
    circuit.kind, circuit.message = "rate", ""
    circuit.open_until_ms = circuit.pause_ms = circuit.refused_ms = circuit.since_ms = circuit.rejections = 0
    release(circuit)


def close_answered(circuit: Circuit, answered_ms: int) -> None:
    """Close the circuit if an answered probe proves that Gemini accepts requests again: if its right, which ended at
    `answered_ms`, began after the last refused request was dispatched."""
    if circuit.open_until_ms and answered_ms - PROBE_MS >= circuit.refused_ms:
        close(circuit)


def close_served(circuit: Circuit, sent_ms: float) -> None:
    """Gemini served a request that was dispatched at `sent_ms`, for an id that was not yet known to be an alias of the
    circuit's model. The request proves as much as a probe if the circuit was half-open by then."""
    if circuit.open_until_ms and sent_ms >= max(circuit.open_until_ms, circuit.refused_ms):
        close(circuit)


def circuits_of(state: State, section: ModelState | None) -> list[Circuit]:
    """The circuits that stop a model's requests now: its own, and the project's."""
    own = [] if section is None else [section.circuit]
    return [circuit for circuit in (*own, state.spend) if circuit.open_until_ms]


def open_until_ms(circuits: Iterable[Circuit]) -> int:
    return max((circuit.open_until_ms for circuit in circuits), default=0)


def reason_of(circuits: Iterable[Circuit]) -> Reason | None:
    """The reason of the circuit that stays open longest."""
    longest = max(circuits, key=lambda circuit: circuit.open_until_ms, default=None)
    return None if longest is None else Reason(longest.kind, longest.message, longest.open_until_ms)


def probe_ms_of(circuits: Iterable[Circuit], instance: str, model: str) -> int:
    """Until when `instance` may send the probe of `model`: it must own the probe of every circuit. 0 if it may not."""
    rights = [circuit.probe_ms * ((circuit.owner, circuit.model) == (instance, model)) for circuit in circuits]
    return min(rights, default=0)


def claim_probe(
    circuits: list[Circuit], state: State, lease: InstanceLease, message: RenewRequest, model: str, grid: Grid
) -> bool:
    """Whether the sending instance may send the probe of `model` after the circuits' pause; one instance at a time.

    Its claim ends PROBE_MS after the probe could begin, and earlier when its lease lapses or no request waits there any more."""
    demand, now_ms = message.demands[model], state.now_ms
    mine = [(circuit.owner, circuit.model) == (message.instance, model) for circuit in circuits]
    taken = [_is_taken(circuit, state) for circuit in circuits]
    if any(held and not own for held, own in zip(taken, mine, strict=True)):
        return False
    may_send = bool(demand.waiting and lease.cap)
    if all(taken) and (demand.probing or may_send):
        return True
    for circuit in circuits:
        release(circuit)
    until_ms = open_until_ms(circuits)
    if not may_send or until_ms > now_ms + max(demand.reach_ms, grid.window_ms // 60):
        return False
    for circuit in circuits:
        circuit.owner, circuit.model = message.instance, model
        circuit.probe_ms = max(now_ms, until_ms) + PROBE_MS
    return True


def _is_taken(circuit: Circuit, state: State) -> bool:
    holder = state.leases.get(circuit.owner)
    return holder is not None and fresh(holder, state.now_ms) and state.now_ms < circuit.probe_ms


# -- a limit below the configured one ----------------------------------------------------------------------------------


def lowered_phase(lowered: Lowered, now_ms: int) -> Phase:
    if lowered.rising_ms:
        return "rising"
    return "open" if now_ms < lowered.test_ms else "half-open"


def lower(section: ModelState, refusal: QuotaSignal, configured: Limits, now_ms: int, grid: Grid) -> None:
    """Record limits that Gemini named in a refusal. Those below the configured ones apply until a test refutes them."""
    for k, (named, limit) in enumerate(zip(refusal.learned, configured, strict=True)):
        known = section.lowered.get(k)
        tested = known is not None and (known.rising_ms or refusal.sent_ms >= known.test_ms)
        if named is None:
            refused = refusal.kind == "day" if k == PER_DAY_AT else dimension_of(k) in refusal.minute
            if known is None or not tested or not refused:
                continue
            named = known.limit
        if limit is not None and named >= limit:
            section.lowered.pop(k, None)
            continue
        pause_ms = int(first_pause_ms("lower", grid.window_ms))
        test_ms = now_ms + pause_ms
        if known is not None and named <= known.limit:
            if tested:
                pause_ms = next_pause_ms("lower", known.pause_ms, grid.window_ms)
                test_ms = now_ms + pause_ms
            elif named == known.limit:
                pause_ms, test_ms = known.pause_ms, known.test_ms
        section.lowered[k] = Lowered(named, sentence(refusal.message), pause_ms, test_ms)


def value(lowered: Lowered, configured: Limit, now_ms: int, grid: Grid) -> int:
    """The limit in force now. Where the configured limit is unlimited, it rises by parts of the one that Gemini named."""
    if not lowered.rising_ms:
        return lowered.limit
    whole = lowered.limit if configured is None else configured
    return lowered.limit + -(-whole * RISE_PERCENT * _steps(lowered, now_ms, grid) // 100)


def _steps(lowered: Lowered, now_ms: int, grid: Grid) -> int:
    return 1 + max(0, now_ms - lowered.rising_ms) // grid.window_ms


def lowered_limits(section: ModelState, configured: Limits, now_ms: int, grid: Grid) -> Limits:
    """The configured limits, each replaced where Gemini named a lower one."""
    if not section.lowered:
        return configured
    result = list(configured)
    for k, lowered in section.lowered.items():
        result[k] = smaller(configured[k], value(lowered, configured[k], now_ms, grid))
    return Limits(*result)


def tested_limits(section: ModelState, limits: Limits, configured: Limits, costs: list[Cost], now_ms: int) -> Limits:
    """`limits` for a renew: a lowered one that is to be tested has room for one request more, never beyond what is configured."""
    result = list(limits)
    for k, lowered in section.lowered.items():
        if lowered_phase(lowered, now_ms) == "half-open":
            result[k] = smaller(configured[k], lowered.limit + max(cost[dimension_of(k)] for cost in costs))
    return Limits(*result)


def _fits_ms(section: ModelState, configured: Limits, cost: Cost, now_ms: int, grid: Grid) -> int:
    """When a request of `cost` may be sent although a lowered limit is smaller than it; 0 if none is."""
    latest_ms = 0
    for k, lowered in section.lowered.items():
        amount, limit = cost[dimension_of(k)], configured[k]
        missing = amount - value(lowered, limit, now_ms, grid)
        if missing <= 0:
            continue
        if lowered.rising_ms:
            step = max(1, (lowered.limit if limit is None else limit) * RISE_PERCENT // 100)
            latest_ms = max(latest_ms, now_ms + -(-missing // step) * grid.window_ms)
        else:
            latest_ms = max(latest_ms, lowered.test_ms, now_ms)
    return latest_ms


def lower_reason(
    section: ModelState, configured: Limits, demand: Demand, now_ms: int, grid: Grid, *, day_spent: bool
) -> Reason | None:
    """Which limit Gemini named below the configured ones; `until_ms` is when the costliest request may be sent that the limit
    does not allow at all, or that its day does not allow any more; 0 if it allows all."""
    if not section.lowered:
        return None
    costs = [cost for cost, _ in demand.wants] or [demand.typical]
    until_ms = max(_fits_ms(section, configured, cost, now_ms, grid) for cost in costs)
    if day_spent and PER_DAY_AT in section.lowered:
        until_ms = max(until_ms, section.lowered[PER_DAY_AT].test_ms)
    latest = max(section.lowered.values(), key=lambda lowered: lowered.test_ms)
    return Reason("lower", latest.message, until_ms)


def note_dispatched(lowered: Lowered, amount: int, now_ms: int, grid: Grid) -> None:
    """Record that `amount` was dispatched within the last window (or this day). If it exceeded the limit and no refusal
    follows within a window, the limit rises."""
    if lowered_phase(lowered, now_ms) != "half-open":
        return
    if amount > lowered.reached:
        lowered.reached_ms = lowered.reached_ms or (now_ms if amount > lowered.limit else 0)
        lowered.reached = amount if lowered.reached_ms else 0
    if lowered.reached_ms and now_ms >= lowered.reached_ms + grid.span * grid.slot_ms:
        lowered.limit, lowered.rising_ms = lowered.reached, now_ms


def forget_risen(section: ModelState, configured: Limits, now_ms: int, grid: Grid) -> None:
    """Forget a lowered limit that has risen to the configured one; where that is unlimited, after as many steps."""
    for k, lowered in list(section.lowered.items()):
        limit = configured[k]
        risen = limit is not None and value(lowered, limit, now_ms, grid) >= limit
        if risen or (lowered.rising_ms and _steps(lowered, now_ms, grid) * RISE_PERCENT >= 100):
            del section.lowered[k]
