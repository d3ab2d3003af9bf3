"""The queue of one process: which request is served next. Fair over callers, first come first served for each. Pure, except for
futures."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from shared.generation import Cost

TOKENS_PER_REQUEST = 4096
"""Input tokens that weigh as much as one more request in a caller's turn."""
EVEN_TURNS = 4
"""Turns within this part of a request are even, and served in the order of arrival: callers that take turns would otherwise be
ordered by the size of their prompts, and one that comes later would be placed among those that were given a Retry-After."""
MAX_TURNS = 10_000
MAX_SUMMED = 2_000
"""Requests whose costs are added up one by one: a long queue must not make each rejection expensive."""
BATCH_EVERY = 20
"""Every n-th turn goes to the batch priority while both priorities wait: at least 5 %."""


@dataclass(slots=True)
class Waiter:
    """One request waiting for a permit. `tag` is its turn; a waiter put back after a lapsed permit keeps it."""

    model: str
    cost: Cost
    caller: str
    batch: bool
    arrived_s: float
    deadline_s: float
    candidates: list[Any]
    """Projects that may serve it, best first; `offered` of them were asked so far."""
    accounts: Sequence[Any]
    future: asyncio.Future[Any]
    offered: int = 1
    evaluated: bool = False
    """Whether it was checked since the ledger's last answer that waiting can succeed."""
    tag: float = 0.0
    sequence: int = 0
    ends_s: float = math.inf
    """The request's own deadline. `deadline_s` ends its wait, so that time for an answer is left."""
    streamed: bool = False


class AccountsChanged(Exception):
    """Raised in a waiting request when other accounts may serve than before: it chooses among them and keeps its place."""

    def __init__(self, waiter: Waiter) -> None:
        self.waiter = waiter


class Placed(Protocol):
    """Anything with a turn: a waiting request, or one that was rejected and is expected back."""

    cost: Cost
    batch: bool
    tag: float
    sequence: int


T = TypeVar("T", bound=Placed)
Entry = tuple[float, int, T]


class Ahead(NamedTuple):
    """Waiters that are served first: how many, and what they cost together."""

    exchanges: int = 0
    requests: float = 0
    tokens: float = 0
    batches: float = 0

    def plus(self, other: Ahead) -> Ahead:
        return Ahead(*map(add, self, other))


@dataclass(slots=True)
class Amounts:
    """The costs of waiters by dimension, in the waiters' order. Each generates at most one image, so images are not needed."""

    requests: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def insert(self, at: int, cost: Cost) -> None:
        self.requests.insert(at, cost.requests)
        self.tokens.insert(at, cost.input_tokens)
        self.batches.insert(at, cost.batches)

    def remove(self, at: int) -> None:
        del self.requests[at], self.tokens[at], self.batches[at]

    def before(self, at: int) -> Ahead:
        return Ahead(at, *(_sum_before(amounts, at) for amounts in (self.requests, self.tokens, self.batches)))


@dataclass(slots=True)
class Ordered(Generic[T]):
    """Waiters in their turns: interactive ones ([0]) and those of the batch priority ([1])."""

    lists: tuple[list[Entry[T]], list[Entry[T]]] = field(default_factory=lambda: ([], []))
    costs: tuple[Amounts, Amounts] = field(default_factory=lambda: (Amounts(), Amounts()))
    """What they cost, in the same order."""

    def __len__(self) -> int:
        return len(self.lists[0]) + len(self.lists[1])

    def add(self, waiter: T) -> None:
        at = self.place(waiter)
        self.lists[waiter.batch].insert(at, (waiter.tag, waiter.sequence, waiter))
        self.costs[waiter.batch].insert(at, waiter.cost)

    def remove(self, waiter: T) -> bool:
        """False if it is not in the queue."""
        entries, at = self.lists[waiter.batch], self.place(waiter)
        if at == len(entries) or entries[at][2] is not waiter:
            return False
        del entries[at]
        self.costs[waiter.batch].remove(at)
        return True

    def place(self, waiter: Placed) -> int:
        """How many waiters of its priority come before it, whether or not it is in the queue."""
        # Sequence numbers are unique, so a comparison never reaches the waiters.
        return bisect_left(self.lists[waiter.batch], (waiter.tag, waiter.sequence))

    def ahead(self, waiter: Placed) -> Ahead:
        """How many waiters are served before it, and what they cost: an estimate beyond the first MAX_SUMMED."""
        before = self.costs[waiter.batch].before(self.place(waiter))
        return before.plus(self.costs[0].before(len(self.lists[0]))) if waiter.batch else before


def _sum_before(amounts: list[int], at: int) -> float:
    known = sum(amounts[: min(at, MAX_SUMMED)])
    return known * at / MAX_SUMMED if at > MAX_SUMMED else known


@dataclass(slots=True)
class FairQueue:
    """Start-time fair queueing: a caller's next turn follows its last by that request's cost over the caller's weight."""

    weights: Mapping[str, float] = field(default_factory=dict)
    _ordered: Ordered[Waiter] = field(default_factory=Ordered)
    _turns: dict[str, float] = field(default_factory=dict)
    _now: float = 0.0
    _sequence: int = 0
    _since_batch: int = 0

    def __len__(self) -> int:
        return len(self._ordered)

    def place(self, waiter: Waiter, after: float = 0.0) -> None:
        """Give `waiter` a turn, later than the turn `after`, unless it has one."""
        if waiter.tag:
            return
        work = waiter.cost.requests + waiter.cost.input_tokens / TOKENS_PER_REQUEST
        last = max(self._now, self._turns.get(waiter.caller, 0.0), after)
        turn = self._turns[waiter.caller] = last + work / self.weights.get(waiter.caller, 1.0)
        waiter.tag = math.floor(turn * EVEN_TURNS) / EVEN_TURNS
        if len(self._turns) > MAX_TURNS:
            self._turns = {caller: tag for caller, tag in self._turns.items() if tag > self._now}
        self._sequence += 1
        waiter.sequence = self._sequence

    def put(self, waiter: Waiter) -> None:
        self.place(waiter)
        self._ordered.add(waiter)

    def remove(self, waiter: Waiter) -> bool:
        """Remove `waiter`, served or not. False if it is not in the queue."""
        if not self._ordered.remove(waiter):
            return False
        if not len(self):
            self._turns.clear()
        return True

    def served(self, waiter: Waiter) -> None:
        self._now = max(self._now, waiter.tag)
        self._since_batch = 0 if waiter.batch else self._since_batch + 1
        self.remove(waiter)

    @property
    def waiting(self) -> tuple[int, int]:
        """How many requests wait, interactive and batch."""
        interactive, batch = self._ordered.lists
        return len(interactive), len(batch)

    def priorities(self) -> tuple[int, int]:
        """The indices of `Ordered.lists` in serving order."""
        return (1, 0) if self._since_batch >= BATCH_EVERY - 1 else (0, 1)

    def __iter__(self) -> Iterator[Waiter]:
        """All waiters in serving order; safe against removal while iterating."""
        first, second = self.priorities()
        for _, _, waiter in [*self._ordered.lists[first], *self._ordered.lists[second]]:
            yield waiter
