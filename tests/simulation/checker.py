"""Judges a recorded history against the promises. Pure: the same history gives the same verdicts, wherever it was recorded."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared.admission.answer_times import MIN_DURATIONS
from shared.ledger.grid import pacific_day
from shared.ledger.limits import Limit
from shared.ledger.state import UNPROVEN
from tests.simulation.history import Bound, Call, Exchange, History, Saturation
from tests.simulation.retry_after import given_times, share_of
from tests.simulation.spells import spells_judged
from tests.simulation.verdict import Verdict

EPSILON_MS = 1e-3
LEARN_WINDOWS = 3
"""After this time an instance has used all that it held for an alias, and has learned as which model it is metered."""
IN_ANY_WINDOW = " in any window"
COUNTED_TOKENS = "counted tokens less booked debt in any window"
ENOUGH_PERMITS, NEAR_OF_FEW, NEAR_OF_SERVED = 10, 5, 7
"""With fewer permits per party than ENOUGH_PERMITS an index means little: then counts may differ by NEAR_OF_FEW. If every
party was served, they may differ by NEAR_OF_SERVED, the known gap of so small a limit in the ledger's README: an instance that
was just served may find a free slot before the waiting ones read the ledger. Chance alone gives eight callers with 27 permits an
index of 0.79."""


@dataclass(frozen=True, slots=True)
class Goals:
    """What is required beyond the limits; None: measured and not judged."""

    answer_slack_ms: float = 4_500.0
    """How long after its deadline a caller may still get its rejection: returning what is held takes at most 2 s, and twice
    that if its permit lapsed just before."""
    used_share: float | None = None
    """Share of the maximum that a saturated limit allows."""
    jain: float | None = None
    wait_ratio: float | None = None
    """p99 of the waits, divided by that of one ideal queue."""
    inaccurate_retry_after: float | None = None
    """Share of the rejected callers that came back at the time that they were given."""


NO_GOALS = Goals()


def check(history: History, goals: Goals = NO_GOALS) -> list[Verdict]:
    """One verdict for each promise that the history can show kept or broken."""
    verdicts = [
        worst_window(history, "requests", lambda e: e.cost.requests, lambda b: b.limits.requests),
        worst_window(
            history, "tokens", lambda e: min(e.used_tokens, e.cost.input_tokens), lambda b: b.limits.input_tokens
        ),
        worst_counted_window(history),
        worst_window(history, "images", lambda e: e.cost.images, lambda b: b.limits.images),
        worst_batches(history),
        worst_day(history),
        worst_instant(history),
        unproven_at_once(history),
        booked_elsewhere(history),
        refusals_obeyed(history),
        answered_in_time(history, goals.answer_slack_ms),
        *spells_judged(history),
    ]
    for period in history.saturations:
        verdicts.append(lost_capacity(history, period, goals.used_share))
        for of in ("instance", "caller"):
            verdicts += fairness(history, period, of, goals.jain)
        verdicts.append(wait_against_fifo(history, period, goals.wait_ratio))
        verdicts.append(inaccurate_retry_after(history, period, goals.inaccurate_retry_after))
    return verdicts


# -- never more than the limits --------------------------------------------------------------------------------------


def worst_window(
    history: History, what: str, amount: Callable[[Exchange], int], limit: Callable[[Bound], Limit]
) -> Verdict:
    """The fullest window of any model, wherever it begins. A request that took longer to write than allowed is debt."""
    sections = {
        f"{project}/{model}": (_bounds(history, project, model), exchanges)
        for (project, model), exchanges in _by_section(history.exchanges).items()
    }
    return _fullest(history, what, amount, limit, sections)


def worst_batches(history: History) -> Verdict:
    """The most batches of embeddings in any window of a project, over all its models."""
    projects: dict[str, tuple[list[Bound], list[Exchange]]] = {}
    for exchange in history.exchanges:
        if exchange.cost.batches:
            bounds = [b for b in history.bounds if b.project == exchange.project and b.limits.batches is not None]
            projects.setdefault(exchange.project, (bounds, []))[1].append(exchange)
    return _fullest(history, "batches", lambda e: e.cost.batches, lambda b: b.limits.batches, projects)


def _fullest(
    history: History,
    what: str,
    amount: Callable[[Exchange], int],
    limit: Callable[[Bound], Limit],
    counted: Mapping[str, tuple[Sequence[Bound], Sequence[Exchange]]],
) -> Verdict:
    """`counted`: by name, exchanges that one limit counts together, and the bounds that state it."""
    worst = Verdict(what + IN_ANY_WINDOW, ok=True)
    for name, (bounds, exchanges) in counted.items():
        timely = [e for e in exchanges if _timely(history, e) and amount(e)]
        recent: deque[tuple[float, int]] = deque()
        total = 0
        for exchange in sorted(timely, key=lambda e: e.arrived_ms):
            at_ms = exchange.arrived_ms
            recent.append((at_ms, amount(exchange)))
            total += amount(exchange)
            while recent[0][0] <= at_ms - history.window_ms:
                total -= recent.popleft()[1]
            allowed = _largest(bounds, limit, at_ms - history.window_ms, at_ms)
            where = f"{name}, the window that ends at {at_ms:.3f}"
            worst = _worse(worst, total, allowed, where)
    return worst


def worst_counted_window(history: History) -> Verdict:
    """The tokens that Gemini counted in any window, less the debt that was booked for requests in it. If a process
    never learned the count, the excess over the reservation cannot be booked: such an exchange counts up to its reservation."""
    return worst_window(
        history,
        COUNTED_TOKENS.removesuffix(IN_ANY_WINDOW),
        lambda e: e.used_tokens - (e.debt_tokens if e.settled_tokens is None else e.booked_debt_tokens),
        lambda b: b.limits.input_tokens,
    )


def worst_day(history: History) -> Verdict:
    """Requests that arrived on one Pacific day. A request that took longer to write than allowed is debt here too."""
    worst = Verdict("requests in any day", ok=True)
    counted = (e for e in history.exchanges if _timely(history, e) and not _counts_elsewhere(e))
    for (project, model), exchanges in _by_section(counted).items():
        bounds = _bounds(history, project, model)
        days: Counter[int] = Counter()
        for exchange in exchanges:
            days[pacific_day(exchange.arrived_ms).ordinal] += exchange.cost.requests
        for ordinal, count in days.items():
            day = next(d for e in exchanges if (d := pacific_day(e.arrived_ms)).ordinal == ordinal)
            allowed = _largest(bounds, lambda b: b.limits.requests_per_day, day.start_ms, day.end_ms)
            worst = _worse(worst, count, allowed, f"{project}/{model}, day {ordinal}")
    return worst


def _counts_elsewhere(exchange: Exchange) -> bool:
    """No day of unproven ids counts an answered request: the metered model counts it, or none (404, and a 429 that names a
    quota, which proves the id)."""
    return exchange.section == UNPROVEN and exchange.status in (200, 404, 429)


def worst_instant(history: History) -> Verdict:
    """The most exchanges of one project that were open at once, over all its models."""
    worst = Verdict("exchanges at once", ok=True)
    projects = defaultdict(list)
    for exchange in history.exchanges:
        if exchange.ended_ms > exchange.written_ms:
            projects[exchange.project].append(exchange)
    for project, exchanges in projects.items():
        bounds = [b for b in history.bounds if b.project == project]
        steps = [(_holds_until_ms(e, history), 0, -1) for e in exchanges] + [(e.written_ms, 1, 1) for e in exchanges]
        now = 0
        for at_ms, _, change in sorted(steps):
            now += change
            if change > 0:
                allowed = _largest(bounds, lambda b: b.concurrency, at_ms, at_ms)
                worst = _worse(worst, now, allowed, f"{project} at {at_ms:.3f}")
    return worst


def _holds_until_ms(exchange: Exchange, history: History) -> float:
    """Until when an exchange counts. A cancelled one counts until Gemini ended it, unless its process does not know how long such
    an answer takes: then the slowest other model counts (A4b in the ledger's README). As C may be exceeded if the answer takes
    longer than that, the exchange then counts only until it was cancelled."""
    if exchange.left_ms is None:
        return exchange.ended_ms
    known = Counter(
        e.asked or e.model
        for e in history.exchanges
        if (e.instance, e.status) == (exchange.instance, 200)  # A process learns from the answers of all its projects.
        and e.left_ms is None
        and e.ended_ms + history.jitter_ms <= exchange.left_ms
    )
    own = known.pop(exchange.asked or exchange.model, 0)
    guessed = own < MIN_DURATIONS <= max(known.values(), default=0)
    return exchange.left_ms if guessed else exchange.ended_ms


def unproven_at_once(history: History) -> Verdict:
    """The most requests of one project that were open at once for ids whose metered model was unknown."""
    worst = Verdict("unproven requests at once", ok=True, limit=1)
    steps: defaultdict[str, list[tuple[float, int, int]]] = defaultdict(list)
    for exchange in history.exchanges:
        if exchange.section == UNPROVEN and exchange.ended_ms > exchange.written_ms:
            steps[exchange.project] += [(exchange.ended_ms, 0, -1), (exchange.written_ms, 1, 1)]
    for project, changes in steps.items():
        now = 0
        for at_ms, _, change in sorted(changes):
            now += change
            worst = _worse(worst, now, 1, f"{project} at {at_ms:.3f}")
    return worst


def booked_elsewhere(history: History) -> Verdict:
    """Requests that were booked in another section than that of the model that Gemini metered, although the ledger knew it:
    none for an unproven id; for a known id those of instances that had not learned of it yet."""
    worst = Verdict("booked elsewhere than metered, though it was known", ok=True, limit=0)
    counts: Counter[str] = Counter()
    for exchange in history.exchanges:
        heard_ms = exchange.named_ms + (0 if exchange.section == UNPROVEN else LEARN_WINDOWS * history.window_ms)
        if exchange.booked and exchange.model and exchange.written_ms > heard_ms + EPSILON_MS:
            where = f"{exchange.project}/{exchange.asked or exchange.model} in {exchange.section}"
            counts[where] += 1
            worst = _worse(worst, counts[where], 0, f"{where} at {exchange.written_ms:.3f} by {exchange.instance}")
    return worst


def refusals_obeyed(history: History) -> Verdict:
    """An instance writes nothing to a model while it knows of a refusal of it."""
    worst = Verdict("written while refused", ok=True, limit=0)
    by_model = _by_section(history.exchanges)
    for refused in history.refused:
        written = sum(
            1
            for e in by_model.get((refused.project, refused.model), ())
            if e.instance == refused.instance and refused.from_ms + EPSILON_MS < e.written_ms < refused.until_ms
        )
        worst = _worse(worst, written, 0, f"{refused.project}/{refused.model} by {refused.instance}")
    return worst


# -- every caller is answered ----------------------------------------------------------------------------------------


def answered_in_time(history: History, slack_ms: float) -> Verdict:
    """How long after its deadline a caller was answered, without time in which its instance was frozen."""
    worst = Verdict("heard after the deadline by ms", ok=True, limit=slack_ms)
    stops = defaultdict(list)
    for stop in history.disturbances:
        if stop.kind == "freeze":
            stops[stop.instance].append(stop)
    for call in history.calls:
        if call.fate == "lost":
            continue
        stood_ms = sum(
            max(0.0, min(stop.until_ms, call.ended_ms) - max(stop.from_ms, call.came_ms))
            for stop in stops[call.instance]
        )
        late_ms = call.ended_ms - call.deadline_ms - stood_ms
        worst = _worse(worst, max(0.0, late_ms), slack_ms, f"call {call.number} ({call.fate} {call.code})")
    return worst


# -- nothing is lost -------------------------------------------------------------------------------------------------


def lost_capacity(history: History, period: Saturation, least: float | None) -> Verdict:
    """What arrived while demand exceeded the limit, as a share of what could have arrived, by the tightest dimension."""
    promise = "share of the saturated limit that was used"
    arrived = [e for e in _of(history, period) if period.from_ms <= e.arrived_ms < period.until_ms]
    windows = (period.until_ms - period.from_ms) / history.window_ms
    shares = [0.0]
    for amount, limit in (
        (lambda e: e.cost.requests, lambda b: b.limits.requests),
        (lambda e: e.used_tokens, lambda b: b.limits.input_tokens),
        (lambda e: e.cost.images, lambda b: b.limits.images),
    ):
        allowed = _largest(_bounds(history, period.project, period.model), limit, period.from_ms, period.until_ms)
        if allowed:
            shares.append(sum(map(amount, arrived)) / (allowed * period.best_use * windows))
    used = max(shares)
    return Verdict(promise, least is None or used >= least, used, least, f"{period.project}/{period.model}")


def fairness(history: History, period: Saturation, of: str, least: float | None) -> Iterator[Verdict]:
    """Jain's index over the parties that all wanted more. With few permits per party, their counts must be close instead."""
    parties = period.instances if of == "instance" else period.callers
    if len(parties) > 1:
        counts = Counter(
            getattr(e, of) for e in _of(history, period) if period.from_ms <= e.arrived_ms < period.until_ms
        )
        served = [counts[party] for party in parties]
        index = jain(served)
        few = sum(served) < ENOUGH_PERMITS * len(served)
        allowed = (NEAR_OF_SERVED if min(served) else NEAR_OF_FEW) if few else 1
        near = max(served) - min(served) <= allowed
        yield Verdict(
            f"Jain's index over {of}s", least is None or near or index >= least, index, least, f"{dict(counts)}"
        )


def jain(amounts: Sequence[float]) -> float:
    squares = sum(amount * amount for amount in amounts)
    return sum(amounts) ** 2 / (len(amounts) * squares) if squares else 1.0


def wait_against_fifo(history: History, period: Saturation, most: float | None) -> Verdict:
    """p99 of the waits of served callers, divided by that of one queue that serves in order as early as the limit allows."""
    calls = sorted(
        (
            c
            for c in history.calls
            if c.served_ms is not None and c.model == period.model and period.project in c.projects
        ),
        key=lambda c: c.came_ms,
    )
    limit = _largest(
        _bounds(history, period.project, period.model), lambda b: b.limits.requests, period.from_ms, period.until_ms
    )
    if not calls or not limit or math.isinf(limit):
        return Verdict("p99 wait over ideal FIFO's", ok=True)
    ideal: list[float] = []
    for at, call in enumerate(calls):
        behind = ideal[at - int(limit)] + history.window_ms if at >= limit else 0.0
        ideal.append(max(call.came_ms, behind))
    waits = quantile([(c.served_ms or 0.0) - c.came_ms for c in calls], 0.99)
    best = quantile([t - c.came_ms for t, c in zip(ideal, calls, strict=True)], 0.99)
    ratio = waits / max(best, 1.0) if best > 1.0 else 1.0
    where = f"{waits:.0f} ms, ideal {best:.0f} ms"
    return Verdict("p99 wait over ideal FIFO's", most is None or ratio <= most, ratio, most, where)


def inaccurate_retry_after(history: History, period: Saturation, most: float | None) -> Verdict:
    """The share of times given to rejected callers that were off by more than a second and a twentieth (`retry_after.py`)."""
    given = given_times(list(_calls(history, period)), period.from_ms, period.until_ms)
    off = 1.0 - share_of([one.accurate for one in given])
    return Verdict("inaccurate Retry-After", most is None or off <= most, off, most, f"of {len(given)}")


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(q * len(ordered)) - 1)] if ordered else 0.0


# --------------------------------------------------------------------------------------------------------------------


def _timely(history: History, exchange: Exchange) -> bool:
    return exchange.arrived_ms - exchange.written_ms <= history.jitter_ms + EPSILON_MS


def _by_section(exchanges: Iterable[Exchange]) -> dict[tuple[str, str], list[Exchange]]:
    found: dict[tuple[str, str], list[Exchange]] = defaultdict(list)
    for exchange in exchanges:
        found[exchange.project, exchange.section].append(exchange)
    return found


def _of(history: History, period: Saturation) -> Iterator[Exchange]:
    return (e for e in history.exchanges if (e.project, e.model) == (period.project, period.model))


def _calls(history: History, period: Saturation) -> Iterator[Call]:
    for call in history.calls:
        ours = call.model == period.model and period.project in call.projects and not call.batch
        if ours and period.from_ms <= call.came_ms < period.until_ms:
            yield call


def _bounds(history: History, project: str, model: str) -> list[Bound]:
    return [b for b in history.bounds if (b.project, b.model) == (project, model)]


def _largest(bounds: Sequence[Bound], limit: Callable[[Bound], Limit], from_ms: float, until_ms: float) -> float:
    """The largest limit that applied at some time in between; infinite if one was unlimited, or none was stated."""
    limits = [limit(b) for b in bounds if b.from_ms <= until_ms and b.until_ms > from_ms]
    return max((math.inf if one is None else one for one in limits), default=math.inf)


def _worse(worst: Verdict, found: float, allowed: float, where: str) -> Verdict:
    """The verdict further above its limit; of two within their limits the fuller one."""
    limit = None if math.isinf(allowed) else allowed
    if limit is None:
        return worst
    excess, known = found - limit, worst.worst - (worst.limit if worst.limit is not None else math.inf)
    if excess > known or not worst.where:
        return Verdict(worst.promise, found <= limit, found, limit, where)
    return worst
