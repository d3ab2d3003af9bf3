"""What Google projects served after an operator had switched an account off or on. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Switch:
    """`before` and `serving`: the projects that had, and that have, an account that may serve."""

    at_s: float
    settled_s: float
    """Every instance has read the configuration by then."""
    before: frozenset[str]
    serving: frozenset[str]


def used_share(
    arrivals_s: Mapping[str, Sequence[float]], switch: Switch, limit: int, period_s: float, periods: int
) -> float:
    """The used share of what the projects in `serving` may serve in `periods` after the switch. `arrivals_s` are the requests at
    Gemini, in order, by project; a project may serve `limit` of them in each half-open period.

    A project's first period begins when the switch is settled. That of a project that was switched on begins with its first
    request, if that comes earlier. Its window is empty, so it serves a part of its limit ahead of the pace, and the rest of the
    same period more slowly: it serves `limit` requests from its first one on, but fewer in a period that begins after those
    that went ahead."""
    used = 0
    for project in switch.serving:
        arrivals = arrivals_s.get(project, ())
        begin_s = switch.settled_s
        if project not in switch.before:
            first = bisect_left(arrivals, switch.at_s)
            begin_s = min([begin_s, *arrivals[first : first + 1]])
        end_s = begin_s + periods * period_s
        used += min(bisect_left(arrivals, end_s) - bisect_left(arrivals, begin_s), periods * limit)
    return used / (periods * limit * len(switch.serving))


def strays(arrivals_s: Mapping[str, Sequence[float]], switch: Switch, until_s: float) -> int:
    """How many requests came for projects without an account from the time on at which the switch is settled."""
    return sum(
        bisect_left(arrivals, until_s) - bisect_left(arrivals, switch.settled_s)
        for project, arrivals in arrivals_s.items()
        if project not in switch.serving
    )
