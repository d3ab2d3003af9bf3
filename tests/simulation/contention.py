"""What a document of the store bears: its commits are served one after another, and too many of them at once fail."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

MAX_WAITING = 10
"""Commits on one document that wait; one more fails with "too much contention"."""


class TooMuchContention(Exception):
    """The commit was not applied, because too many others wait for the same document."""


@dataclass(slots=True)
class Contention:
    """The commits on each document. `commit_s`: how long one takes, from the least to the most; rejected ones take as long.

    Reads are not counted: Firestore serves them from a snapshot, beside any commit."""

    random: Random
    commit_s: tuple[float, float] = (0.0, 0.0)
    max_waiting: int = MAX_WAITING
    _ends_s: defaultdict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    """By document, when each of its commits is served, in order."""

    def enter(self, documents: Iterable[str], now_s: float) -> float:
        """How long it takes until a commit on `documents` that arrives now is served. Raises TooMuchContention."""
        if not self.commit_s[1]:
            return 0.0
        queues = [self._ends_s[document] for document in documents]
        for ends_s in queues:
            while ends_s and ends_s[0] <= now_s:
                ends_s.popleft()
        if any(len(ends_s) > self.max_waiting for ends_s in queues):
            raise TooMuchContention
        end_s = max([now_s, *(ends_s[-1] for ends_s in queues if ends_s)]) + self.random.uniform(*self.commit_s)
        for ends_s in queues:
            ends_s.append(end_s)
        return end_s - now_s
