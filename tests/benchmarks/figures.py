"""What a benchmark's windows say: rates, percentiles, what one function costs more than another. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.load import Window


@dataclass(frozen=True)
class Cell:
    """One way of calling. A stream has frames with pauses between them; `latency_ms` is before the first."""

    callers: int
    latency_ms: int
    stream: bool = False


@dataclass(frozen=True)
class Figures:
    """Of one window, or the best of several."""

    requests: int
    per_s: float
    cpu_ms: float
    """Per request."""
    p50_ms: float
    p99_ms: float
    lag_p50_ms: float = 0.0
    """Of a streamed event, from Gemini's frame to the caller; 0 for what is not streamed."""
    lag_p99_ms: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """One function beside the pass-through in one cell. `cpu_ms` and the percentiles are what it has more per request;
    `least_cpu_ms` and `most_cpu_ms` are the extremes of that over rounds, each of neighbours in time."""

    cell: Cell
    ours: Figures
    base: Figures
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    least_cpu_ms: float
    most_cpu_ms: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of `ordered` that at least `share` of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def figures(window: Window) -> Figures:
    """Raises ValueError for a window in which nothing was answered."""
    ordered, lags_s = sorted(window.latencies_s), sorted(window.lags_s) or [0.0]
    if not ordered:
        raise ValueError("nothing was answered in a whole window")
    count = len(ordered)
    return Figures(
        requests=count,
        per_s=count / window.seconds,
        cpu_ms=1000 * window.cpu_s / count,
        p50_ms=1000 * percentile(ordered, 0.5),
        p99_ms=1000 * percentile(ordered, 0.99),
        lag_p50_ms=1000 * percentile(lags_s, 0.5),
        lag_p99_ms=1000 * percentile(lags_s, 0.99),
    )


def best(rounds: Sequence[Figures]) -> Figures:
    """Each figure from the round where it is best: what else runs on a machine only makes them worse."""
    return Figures(
        requests=sum(one.requests for one in rounds),
        per_s=max(one.per_s for one in rounds),
        cpu_ms=min(one.cpu_ms for one in rounds),
        p50_ms=min(one.p50_ms for one in rounds),
        p99_ms=min(one.p99_ms for one in rounds),
        lag_p50_ms=min(one.lag_p50_ms for one in rounds),
        lag_p99_ms=min(one.lag_p99_ms for one in rounds),
    )


def compare(cell: Cell, ours: Sequence[Figures], base: Sequence[Figures]) -> Comparison:
    """`ours[i]` and `base[i]` were measured one after the other."""
    mine, bare = best(ours), best(base)
    added_ms = [one.cpu_ms - other.cpu_ms for one, other in zip(ours, base, strict=True)]
    return Comparison(
        cell=cell,
        ours=mine,
        base=bare,
        cpu_ms=mine.cpu_ms - bare.cpu_ms,
        p50_ms=mine.p50_ms - bare.p50_ms,
        p99_ms=mine.p99_ms - bare.p99_ms,
        least_cpu_ms=min(added_ms),
        most_cpu_ms=max(added_ms),
    )
