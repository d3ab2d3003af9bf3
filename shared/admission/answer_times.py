"""How long Gemini took for its last answers, by model: what a request must leave of its time when it takes a permit."""

from __future__ import annotations

import statistics
from collections import OrderedDict, deque
from typing import NamedTuple

MAX_ANSWERS = 50
MAX_MODELS = 1_000
MIN_ANSWERS = 10
"""With fewer, nothing is derived from them."""


class Kind(NamedTuple):
    """Answers that are compared: of a stream, the time to its first frame counts."""

    model: str
    streamed: bool


class AnswerTimes:
    """Of one process. The models that were not used for longest are forgotten."""

    def __init__(self) -> None:
        self._taken_s: OrderedDict[Kind, deque[float]] = OrderedDict()

    def record(self, kind: Kind, took_s: float) -> None:
        taken_s = self._taken_s.get(kind)
        if taken_s is None:
            if len(self._taken_s) >= MAX_MODELS:
                self._taken_s.popitem(last=False)
            taken_s = self._taken_s[kind] = deque(maxlen=MAX_ANSWERS)
        else:
            self._taken_s.move_to_end(kind)
        taken_s.append(took_s)

    def median_s(self, kind: Kind) -> float | None:
        taken_s = self._known(kind)
        return statistics.median(taken_s) if taken_s else None

    def fastest_tenth_s(self, kind: Kind) -> float | None:
        """The time within which the fastest tenth of the answers came."""
        taken_s = self._known(kind)
        return sorted(taken_s)[max(0, len(taken_s) // 10 - 1)] if taken_s else None

    def _known(self, kind: Kind) -> deque[float] | None:
        taken_s = self._taken_s.get(kind)
        return taken_s if taken_s is not None and len(taken_s) >= MIN_ANSWERS else None
