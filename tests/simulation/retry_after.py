"""How true a Retry-After was: when a rejected caller that came back at the time that it was given could begin. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.simulation.history import Call, History

ALLOWED_S, ALLOWED_SHARE = 1.0, 0.05
"""The allowed error: the larger of a second and this share of the Retry-After."""
RETURN_S = 1.0
"""A request that comes up to this long after the time given is the rejected caller's return; callers come after a short pause."""
FORWARD, BEHIND = "told too early", "told too late"


@dataclass(frozen=True, slots=True)
class Told:
    """One Retry-After, and how far it was from the truth. Both errors are seconds beyond the time given, never negative."""

    instance: str
    told_s: float
    early_s: float
    """How long the caller waited, from its return until it was served; rejections in between included."""
    late_s: float
    """How long before its time a request that came later was served in its place."""

    @property
    def error_s(self) -> float:
        return max(self.early_s, self.late_s)

    @property
    def accurate(self) -> bool:
        return self.error_s <= self.allowed_s

    @property
    def punctual(self) -> bool:
        """Whether the caller was served when it returned; that it could have come earlier is no fault here."""
        return self.early_s <= self.allowed_s

    @property
    def allowed_s(self) -> float:
        return max(ALLOWED_S, ALLOWED_SHARE * self.told_s)


@dataclass(slots=True)
class _Request:
    """What one caller wanted once: a call, and those that followed its rejections at the times given."""

    calls: list[Call]

    @property
    def served_ms(self) -> float:
        last = self.calls[-1].served_ms
        return math.inf if last is None else last


def retry_after_errors(history: History, from_ms: float, until_ms: float) -> list[Told]:
    """Every Retry-After of a full queue that was given from `from_ms` on to a caller that came back at that time, before `until_ms`.

    A permit really became free for a rejected request at the moment at which it was served after its return, if it had to
    wait then, or else at the moment at which the first request that had come later was served although this one was still away.
    Each request that was served stands for one permit, so it is counted against one of those that it passed, the first that came. Requests
    that have come earlier are ahead of it, wherever they wait. A caller that has not been served when the history ends has
    waited until then. Callers that do not return at their time prove nothing."""
    requests = list(_requests(history.calls))
    end_ms = max((call.ended_ms for call in history.calls), default=0.0)
    passed_ms = _passed(requests)
    found = []
    for request in requests:
        served_ms = min(request.served_ms, end_ms)
        for call, back in zip(request.calls, request.calls[1:], strict=False):
            if call.ended_ms >= from_ms and back.came_ms < until_ms:
                told_s = call.retry_after_s or 0.0
                passed = passed_ms.get(call.number, math.inf)
                found.append(
                    Told(
                        call.instance,
                        told_s,
                        max(0.0, served_ms - back.came_ms) / 1000,
                        max(0.0, call.ended_ms + told_s * 1000 - passed) / 1000,
                    )
                )
    return found


def _requests(calls: Iterable[Call]) -> Iterable[_Request]:
    """The calls by what their caller wanted: a call that comes at the time given to a rejected one continues it."""
    away: dict[tuple[str, str], list[_Request]] = defaultdict(list)
    found = []
    for call in sorted(calls, key=lambda call: call.came_ms):
        expected = away[call.caller, call.model]
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
    due_ms = rejected.ended_ms + 1000 * (rejected.retry_after_s or 0.0)
    return due_ms - 1.0 <= call.came_ms <= due_ms + 1000 * RETURN_S


def _passed(requests: Sequence[_Request]) -> dict[int, float]:
    """By the number of a rejected call: when a later request was served in its place, while its caller was away."""
    served = sorted((one.served_ms, one.calls[0].came_ms, one.calls[0].model) for one in requests if one.served_ms < math.inf)
    times = [at for at, _, _ in served]
    taken: set[int] = set()
    passed: dict[int, float] = {}
    for request in sorted(requests, key=lambda one: one.calls[0].came_ms):
        first = request.calls[0]
        for call in request.calls[:-1]:
            due_ms = call.ended_ms + 1000 * (call.retry_after_s or 0.0)
            for at in range(bisect_left(times, call.ended_ms), bisect_left(times, due_ms)):
                if at not in taken and served[at][1] > first.came_ms and served[at][2] == first.model:
                    taken.add(at)
                    passed[call.number] = times[at]
                    break
    return passed
