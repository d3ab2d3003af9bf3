"""What a cell's history says: windows, waits, fairness, writes, recovery. Pure; every time is CLOCK_MONOTONIC, in seconds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.benchmarks.figures import percentile
from tests.support.ideal_queue import ideal_fifo, ideal_round
from tests.support.invariants import worst_window

USD_PER_READ, USD_PER_WRITE = 0.03 / 100_000, 0.09 / 100_000
"""Firestore Standard, one region in the US, list price in 2026 (cloud.google.com/firestore/pricing); a multi-region is twice
that. Refused commits are counted as writes."""
FULL_SHARE, FULL_FOR_S = 0.95, 2.0
"""Service is back when so much of what it was before is reached for so long."""
OK, LEFT = "ok", "left"
"""What became of a request: answered; its caller left because the cell was over. Anything else is an error's code."""


class Asked(NamedTuple):
    """One request. `queued_s`: how long it waited for its permit; None when it was not answered."""

    process: int
    caller: int
    came_s: float
    queued_s: float | None
    outcome: str
    held: bool
    """Its process held slots and permits when it came: it was not the first one after an idle time."""

    @property
    def dispatched_s(self) -> float | None:
        return None if self.queued_s is None else self.came_s + self.queued_s


@dataclass(frozen=True)
class Observed:
    """Everything that was seen of a cell. What lies in [since_s, until_s) is measured."""

    begin_s: float
    since_s: float
    until_s: float
    window_s: float
    limit: int
    closed_loop: bool
    service_s: float
    """How long Gemini takes."""
    asked: Sequence[Asked]
    arrivals_s: Sequence[float]
    """At Gemini, of what it admitted; sorted."""
    most_offered: int
    """In any window, what Gemini refused included."""
    most_at_once: int
    refused: Mapping[str, int]
    """By Gemini; by reason."""
    commits_s: Sequence[float]
    conflicts_s: Sequence[float]
    """Of these commits, those refused because somebody else was faster."""
    reads_s: Sequence[float]
    steps_ms: Sequence[float] = ()
    """CPU of each transition of the ledger, with unpacking and packing."""
    state_bytes: int = 0
    cpu_ms: float = 0.0
    """Of all processes while it was measured."""
    killed_s: float | None = None


@dataclass(frozen=True)
class Fairness:
    """How many requests each party had dispatched: Jain's index (1: all the same), the least, the most, the mean."""

    jain: float
    least: int
    most: int
    mean: float


@dataclass(frozen=True)
class Figures:
    """`used` is the share of the limit that was dispatched; waits are of what was dispatched while it was measured; `held_*`
    of requests that came to a process with permits while the ideal queue would have let them pass; 0 where there is none."""

    limit: int
    worst_window: int
    most_at_once: int
    requests: int
    used: float
    ideal_requests: int
    """That the ideal queue would have dispatched in that time."""
    answered_share: float
    writes_per_request: float
    conflicts_per_write: float
    reads_per_request: float
    commits_per_s: float
    refused_per_s: float
    """Commits on the document by all processes together, applied and refused."""
    reads_per_s: float
    usd_per_million: float
    wait_p50_s: float
    wait_p99_s: float
    ideal_p50_s: float
    ideal_p99_s: float
    held: int
    held_p50_s: float
    held_p99_s: float
    callers: Fairness
    processes: Fairness
    refused: int
    errors: int
    step_ms: float
    step_p99_ms: float
    state_bytes: int
    cpu_ms_per_request: float
    recovery_s: float | None
    """None: no process was killed, or service was not back when the cell ended."""


@dataclass(frozen=True)
class Series:
    """For a plot, per second from the start: requests that arrived, and how many were in the window that ends with it."""

    per_s: list[int] = field(default_factory=list)
    in_window: list[int] = field(default_factory=list)


def judge(seen: Observed) -> Figures:
    """Raises ValueError when nothing arrived while it was measured."""
    span_s = seen.until_s - seen.since_s
    count = _within(seen.arrivals_s, seen.since_s, seen.until_s)
    if not count:
        raise ValueError("nothing arrived at Gemini while it was measured")
    commits, conflicts, reads = (
        _within(sorted(times), seen.since_s, seen.until_s) for times in (seen.commits_s, seen.conflicts_s, seen.reads_s)
    )
    measured = [one for one in seen.asked if _is_in(one.dispatched_s, seen)]
    came = [one for one in seen.asked if seen.since_s <= one.came_s < seen.until_s]
    waits, ideal = sorted(one.queued_s or 0.0 for one in measured), _ideal_waits(seen)
    held = [] if seen.closed_loop else _held_waits(seen)
    steps = sorted(seen.steps_ms)
    return Figures(
        limit=seen.limit,
        worst_window=max(worst_window(seen.arrivals_s, seen.window_s), seen.most_offered),
        most_at_once=seen.most_at_once,
        requests=count,
        used=count / (seen.limit * span_s / seen.window_s),
        ideal_requests=len(ideal),
        answered_share=sum(one.outcome == OK for one in came) / max(1, len(came)),
        writes_per_request=commits / count,
        conflicts_per_write=conflicts / max(1, commits - conflicts),
        reads_per_request=reads / count,
        commits_per_s=(commits - conflicts) / span_s,
        refused_per_s=conflicts / span_s,
        reads_per_s=reads / span_s,
        usd_per_million=1e6 * (reads * USD_PER_READ + commits * USD_PER_WRITE) / count,
        wait_p50_s=_percentile(waits, 0.5),
        wait_p99_s=_percentile(waits, 0.99),
        ideal_p50_s=_percentile(ideal, 0.5),
        ideal_p99_s=_percentile(ideal, 0.99),
        held=len(held),
        held_p50_s=_percentile(held, 0.5),
        held_p99_s=_percentile(held, 0.99),
        callers=fairness(measured, seen.asked, lambda one: (one.process, one.caller)),
        processes=fairness(measured, seen.asked, lambda one: one.process),
        refused=sum(seen.refused.values()),
        errors=sum(one.outcome not in (OK, LEFT) for one in seen.asked),
        step_ms=_percentile(steps, 0.5),
        step_p99_ms=_percentile(steps, 0.99),
        state_bytes=seen.state_bytes,
        cpu_ms_per_request=seen.cpu_ms / count,
        recovery_s=None if seen.killed_s is None else recovery_s(seen.arrivals_s, seen.killed_s, seen.until_s),
    )


def fairness(measured: Iterable[Asked], everybody: Iterable[Asked], party: Callable[[Asked], object]) -> Fairness:
    """Parties of which nothing was dispatched count too."""
    counts = Counter({party(one): 0 for one in everybody})
    counts.update(party(one) for one in measured)
    values = list(counts.values())
    total, squares = sum(values), sum(value * value for value in values)
    if not total:
        return Fairness(0.0, 0, 0, 0.0)
    return Fairness(total * total / (len(values) * squares), min(values), max(values), total / len(values))


def recovery_s(arrivals_s: Sequence[float], killed_s: float, until_s: float) -> float | None:
    """How long after `killed_s` as much is served as before it; None when it never is until `until_s`."""
    before = _within(arrivals_s, killed_s - 4 * FULL_FOR_S, killed_s) / 4
    # The kill itself empties slots at Gemini, and the others' requests come in step: not what is looked for.
    at_s = killed_s + 1.0
    while at_s + FULL_FOR_S <= until_s:
        if _within(arrivals_s, at_s, at_s + FULL_FOR_S) >= FULL_SHARE * before:
            return at_s - killed_s
        at_s += 0.1
    return None


def series(arrivals_s: Sequence[float], begin_s: float, until_s: float, window_s: float) -> Series:
    """`arrivals_s` is sorted. The window's count is the most that it was in that second."""
    per_s, in_window = [], []
    for second in range(int(until_s - begin_s)):
        first = bisect_left(arrivals_s, begin_s + second)
        last = bisect_left(arrivals_s, begin_s + second + 1)
        counts = [at + 1 - bisect_right(arrivals_s, arrivals_s[at] - window_s) for at in range(first, last)]
        counts.append(first - bisect_right(arrivals_s, begin_s + second - window_s))
        per_s.append(last - first)
        in_window.append(max(counts))
    return Series(per_s, in_window)


def _ideal_waits(seen: Observed) -> list[float]:
    """Sorted; of what the ideal queue dispatches while it is measured."""
    if seen.closed_loop:
        callers = len({(one.process, one.caller) for one in seen.asked})
        until_s = seen.until_s - seen.begin_s
        rounds = ideal_round(callers, seen.limit, seen.window_s, seen.service_s, until_s)
        return sorted(at_s - came_s for came_s, at_s in rounds if seen.begin_s + at_s >= seen.since_s)
    came = sorted(one.came_s for one in seen.asked)
    dispatched = ideal_fifo(came, seen.limit, seen.window_s)
    return sorted(at - since for since, at in zip(came, dispatched, strict=True) if _is_in(at, seen))


def _held_waits(seen: Observed) -> list[float]:
    """Sorted. Where the limit itself makes a request wait, nobody can hold a permit for it."""
    ordered = sorted(seen.asked, key=lambda one: one.came_s)
    passes = ideal_fifo([one.came_s for one in ordered], seen.limit, seen.window_s)
    return sorted(
        one.queued_s
        for one, at_s in zip(ordered, passes, strict=True)
        if one.held and one.queued_s is not None and at_s == one.came_s and _is_in(one.dispatched_s, seen)
    )


def _is_in(at_s: float | None, seen: Observed) -> bool:
    return at_s is not None and seen.since_s <= at_s < seen.until_s


def _within(ordered: Sequence[float], since_s: float, until_s: float) -> int:
    return bisect_left(ordered, until_s) - bisect_left(ordered, since_s)


def _percentile(ordered: Sequence[float], share: float) -> float:
    return percentile(ordered, share) if ordered else 0.0
