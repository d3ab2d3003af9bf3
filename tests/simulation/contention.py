"""What a document of the store bears: its commits are served one after another, and too many of them at once fail."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from random import Random

MAX_WAITING = 10
"""Commits on one document that wait; one more fails with "too much contention"."""
REJECTED_SHARE = 0.25
"""A commit that is rejected because the document has changed takes this share of the time: nothing is replicated for it."""


class TooMuchContention(Exception):
    """The commit was not applied, because too many others wait for the same document."""


@dataclass(slots=True)
class Contention:
    """The commits on each document. `commit_s`: how long one takes, from the least to the most.

    Reads are not counted: Firestore serves them from a snapshot, beside any commit."""

    random: Random
    commit_s: tuple[float, float] = (0.0, 0.0)
    max_waiting: int = MAX_WAITING
    _ends_s: defaultdict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    """By document, when each of its commits is served, in order."""

    def enter(self, document: str, now_s: float, *, rejected: bool = False) -> float:
        """How long it takes until a commit that arrives now is served. `rejected`: the document will have changed by then.
        Raises TooMuchContention."""
        if not self.commit_s[1]:
            return 0.0
        ends_s = self._ends_s[document]
        while ends_s and ends_s[0] <= now_s:
            ends_s.popleft()
        if len(ends_s) > self.max_waiting:
            raise TooMuchContention
        takes_s = self.random.uniform(*self.commit_s) * (REJECTED_SHARE if rejected else 1.0)
        ends_s.append((ends_s[-1] if ends_s else now_s) + takes_s)
        return ends_s[-1] - now_s
