"""How true a Retry-After was: when a rejected caller that came back at the time that it was given could begin. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.simulation.history import Call

ALLOWED_S, ALLOWED_SHARE = 1.0, 0.05
"""The allowed error: the larger of a second and this share of the Retry-After."""
RETURN_S = 1.0
"""A request that comes up to this long after the given time is the return of the rejected one."""


@dataclass(frozen=True, slots=True)
class GivenTime:
    """One Retry-After, and its errors in seconds, which are never negative."""

    retry_after_s: float
    early_s: float
    """How long the caller waited from its return until it was served, rejections in between included."""
    late_s: float
    """How long before the given time a later request was served in its place."""

    @property
    def allowed_s(self) -> float:
        return max(ALLOWED_S, ALLOWED_SHARE * self.retry_after_s)

    @property
    def accurate(self) -> bool:
        return max(self.early_s, self.late_s) <= self.allowed_s

    @property
    def served_on_return(self) -> bool:
        return self.early_s <= self.allowed_s


@dataclass(slots=True)
class _Request:
    """What one caller wanted once: a call, and those that came at the times that its rejections gave."""

    calls: list[Call]

    @property
    def came_ms(self) -> float:
        return self.calls[0].came_ms

    @property
    def served_ms(self) -> float:
        last = self.calls[-1].served_ms
        return math.inf if last is None else last


def given_times(calls: Sequence[Call], from_ms: float, until_ms: float) -> list[GivenTime]:
    """Every Retry-After of `queue_timeout` that was given from `from_ms` on to a caller that came back at that time, before
    `until_ms`. `calls` are those to one model.

    For a rejected request a permit really became free when it was served after its return, if it had to wait then. The time
    was too late if a request that came after it was served while it was away: then the permit was free for it when that one was
    served. Each served request stands for one permit, so it counts against one of those that it passed, the one that came
    first. A request that had not been served when the history ends has waited until then. A caller that does not return at its
    time shows nothing."""
    requests = _requests(calls)
    end_ms = max((call.ended_ms for call in calls), default=0.0)
    passed_ms = _passed(requests)
    return [
        GivenTime(
            rejected.retry_after_s or 0.0,
            max(0.0, min(request.served_ms, end_ms) - back.came_ms) / 1000,
            max(0.0, _due_ms(rejected) - passed_ms.get(rejected.number, math.inf)) / 1000,
        )
        for request in requests
        for rejected, back in zip(request.calls, request.calls[1:], strict=False)
        if rejected.ended_ms >= from_ms and back.came_ms < until_ms
    ]


def share_of(given: Sequence[bool]) -> float:
    return sum(given) / len(given) if given else 1.0


def _due_ms(rejected: Call) -> float:
    return rejected.ended_ms + 1000 * (rejected.retry_after_s or 0.0)


def _requests(calls: Iterable[Call]) -> list[_Request]:
    away: dict[str, list[_Request]] = defaultdict(list)
    found = []
    for call in sorted(calls, key=lambda call: call.came_ms):
        expected = away[call.caller]
        request = next((one for one in expected if _returns(one.calls[-1], call)), None)
        if request is None:
            request = _Request([])
            found.append(request)
        else:
            expected.remove(request)
        request.calls.append(call)
        if call.code == "queue_timeout" and call.retry_after_s is not None:
            expected.append(request)
    return found


def _returns(rejected: Call, call: Call) -> bool:
    return 0 <= call.came_ms - _due_ms(rejected) + 1.0 <= 1000 * RETURN_S


def _passed(requests: Sequence[_Request]) -> dict[int, float]:
    """By the number of a rejected call: when a later request was served in its place, while its caller was away."""
    served = sorted((one.served_ms, one.came_ms) for one in requests if one.served_ms < math.inf)
    times_ms = [at_ms for at_ms, _ in served]
    taken: set[int] = set()
    passed: dict[int, float] = {}
    for request in sorted(requests, key=lambda one: one.came_ms):
        for rejected in request.calls[:-1]:
            while_away = range(bisect_left(times_ms, rejected.ended_ms), bisect_left(times_ms, _due_ms(rejected)))
            at = next((at for at in while_away if at not in taken and served[at][1] > request.came_ms), None)
            if at is not None:
                taken.add(at)
                passed[rejected.number] = times_ms[at]
    return passed
