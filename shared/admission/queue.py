"""The process's one queue: who is served next. Fair over callers, first come first served within one. Pure but for futures."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.generation import Cost

TOKENS_PER_REQUEST = 4096
"""So many input tokens weigh as much as one more request in a caller's turn."""
TURNS_KEPT = 10_000
BATCH_EVERY = 20
"""One turn in so many is the batch priority's while both wait: never less than 5 %."""


@dataclass(slots=True)
class Waiter:
    """One request waiting for a permit. `tag` is its turn; a waiter put back after a lapsed permit keeps it."""

    model: str
    cost: Cost
    caller: str
    batch: bool
    came_s: float
    deadline_s: float
    candidates: list[Any]
    """Agents that may serve it, best first; `offered` of them were asked so far."""
    accounts: Sequence[Any]
    future: asyncio.Future[Any]
    offered: int = 1
    judged: bool = False
    """Whether the ledger's answer was looked at for a reason not to wait."""
    tag: float = 0.0
    sequence: int = 0


Entry = tuple[float, int, Waiter]


@dataclass(slots=True)
class Ordered:
    """Waiters in their turns: interactive ones ([0]) and those of the batch priority ([1])."""

    lists: tuple[list[Entry], list[Entry]] = field(default_factory=lambda: ([], []))

    def __len__(self) -> int:
        return len(self.lists[0]) + len(self.lists[1])

    def add(self, waiter: Waiter) -> None:
        insort(self.lists[waiter.batch], (waiter.tag, waiter.sequence, waiter))

    def remove(self, waiter: Waiter) -> bool:
        """False when it is not here."""
        entries, at = self.lists[waiter.batch], self.place(waiter)
        if at == len(entries) or entries[at][2] is not waiter:
            return False
        del entries[at]
        return True

    def place(self, waiter: Waiter) -> int:
        """How many of its priority are before it, whether or not it is here."""
        # A sequence number occurs once, so two entries are never told apart by their waiters.
        return bisect_left(self.lists[waiter.batch], (waiter.tag, waiter.sequence))


@dataclass(slots=True)
class FairQueue:
    """Start-time fair queueing: a caller's next turn comes after its last by the cost of it over the caller's weight."""

    weights: Mapping[str, float] = field(default_factory=dict)
    _ordered: Ordered = field(default_factory=Ordered)
    _turns: dict[str, float] = field(default_factory=dict)
    _now: float = 0.0
    _sequence: int = 0
    _since_batch: int = 0

    def __len__(self) -> int:
        return len(self._ordered)

    def put(self, waiter: Waiter) -> None:
        if not waiter.tag:
            work = 1 + waiter.cost.input_tokens / TOKENS_PER_REQUEST
            waiter.tag = max(self._now, self._turns.get(waiter.caller, 0.0)) + work / self.weights.get(
                waiter.caller, 1.0
            )
            self._turns[waiter.caller] = waiter.tag
            if len(self._turns) > TURNS_KEPT:
                self._turns = {caller: tag for caller, tag in self._turns.items() if tag > self._now}
            self._sequence += 1
            waiter.sequence = self._sequence
        self._ordered.add(waiter)

    def remove(self, waiter: Waiter) -> bool:
        """Take it out, served or not. False for one that is not here."""
        if not self._ordered.remove(waiter):
            return False
        if not len(self):
            self._turns.clear()
        return True

    def served(self, waiter: Waiter) -> None:
        self._now = max(self._now, waiter.tag)
        self._since_batch = 0 if waiter.batch else self._since_batch + 1
        self.remove(waiter)

    def priorities(self) -> tuple[int, int]:
        """Which of `Ordered.lists` is served first, and which after it."""
        return (1, 0) if self._since_batch >= BATCH_EVERY - 1 else (0, 1)

    def __iter__(self) -> Iterator[Waiter]:
        """All, in the order in which they are to be served; safe against removal while iterating."""
        first, second = self.priorities()
        for _, _, waiter in [*self._ordered.lists[first], *self._ordered.lists[second]]:
            yield waiter
