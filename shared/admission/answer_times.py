"""How long a model's recent answers took in this process: the least time that a request needs. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, deque
from dataclasses import dataclass, field

MAX_ANSWERS = 50
"""Answers remembered per model and kind."""
MIN_ANSWERS = 10
"""Minimum answers for a quantile."""
MIN_DURATIONS = 3
"""Minimum answers to estimate the rest of one; with fewer, a cancelled exchange keeps its slot to its deadline."""
MAX_AGE_S = 300.0
"""An answer is forgotten after this time. So when a model becomes faster than its record, the requests that the record
rejects are sent again after this time at the latest, and their answers correct the record."""
MAX_MODELS = 256


@dataclass(slots=True)
class _Recent:
    """Answers of one model and kind, in the order in which they came: when each was recorded, and how long it took (s)."""

    answers: deque[tuple[float, float]] = field(default_factory=deque)
    ordered: list[float] = field(default_factory=list)
    """Their durations, in ascending order."""

    def add(self, now_s: float, took_s: float) -> None:
        if len(self.answers) == MAX_ANSWERS:
            self._drop_oldest()
        self.answers.append((now_s, took_s))
        insort(self.ordered, took_s)

    def forget(self, before_s: float) -> None:
        while self.answers and self.answers[0][0] < before_s:
            self._drop_oldest()

    def known(self, now_s: float, at_least: int) -> bool:
        self.forget(now_s - MAX_AGE_S)
        return len(self.ordered) >= at_least

    def left_s(self, waited_s: float) -> float:
        longer = self.ordered[bisect_right(self.ordered, waited_s) :]
        return longer[-(len(longer) // 10) - 1] - waited_s if longer else waited_s

    def _drop_oldest(self) -> None:
        _, took_s = self.answers.popleft()
        del self.ordered[bisect_left(self.ordered, took_s)]


class AnswerTimes:
    """The last answers of each model, unary and streamed ones apart: a stream's time is that of its first byte.

    Only successful answers are recorded. `now_s` is elapsed time."""

    def __init__(self) -> None:
        self._recent: OrderedDict[tuple[str, bool], _Recent] = OrderedDict()
        """By model and kind, the least recently recorded first."""

    def record(self, model: str, took_s: float, now_s: float, *, streamed: bool = False) -> None:
        key = (model, streamed)
        recent = self._recent.get(key)
        if recent is None:
            if len(self._recent) >= MAX_MODELS:
                self._recent.popitem(last=False)
            recent = self._recent[key] = _Recent()
        recent.add(now_s, took_s)
        self._recent.move_to_end(key)

    def quantile_s(self, model: str, share: float, now_s: float, *, streamed: bool = False) -> float | None:
        """The time within which `share` of the recent answers came; None while fewer than MIN_ANSWERS are known."""
        recent = self._recent.get((model, streamed))
        if recent is None:
            return None
        recent.forget(now_s - MAX_AGE_S)
        known = len(recent.ordered)
        return recent.ordered[max(0, int(share * known + 1e-9) - 1)] if known >= MIN_ANSWERS else None

    def fastest_tenth_s(self, model: str, now_s: float, *, streamed: bool = False) -> float:
        """The longest of the fastest tenth: no request with less time left is worth a permit. 0.0 if not known."""
        return self.quantile_s(model, 0.1, now_s, streamed=streamed) or 0.0

    def left_s(self, model: str, waited_s: float, now_s: float) -> float | None:
        """How much longer an answer usually takes that has not come after `waited_s`. Of the recent answers that took longer than
        that, 90 % came within this time; if none did, it is `waited_s` again. For a model with too few answers, the slowest of
        the other models counts; None if all have too few."""
        recent = self._recent.get((model, False))
        if recent is not None and recent.known(now_s, MIN_DURATIONS):
            return recent.left_s(waited_s)
        others = (one.left_s(waited_s) for one in self._recent.values() if one.known(now_s, MIN_DURATIONS))
        return max(others, default=None)

    def median_s(self, model: str, now_s: float, *, streamed: bool = False) -> float | None:
        return self.quantile_s(model, 0.5, now_s, streamed=streamed)
