"""The requests that wait for one project. Their sums are kept up to date, so that no operation grows with their number."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import chain, islice

from shared.admission.queue import Entry, Ordered, Waiter
from shared.generation import NO_COST, Cost
from shared.ledger.state import BATCH_ONLY

SCAN = 64
"""Maximum waiters of one model tried per turn before the model counts as being without permits."""


@dataclass(slots=True)
class ModelWaitList:
    """The waiters of one model."""

    order: Ordered[Waiter] = field(default_factory=Ordered)
    cost: Cost = NO_COST
    """Total cost of all waiters."""
    not_evaluated: dict[int, Waiter] = field(default_factory=dict)
    """Waiters not yet evaluated since they came, by sequence number."""
    evaluated_s: float = 0.0
    """The time of the ledger's answer by which the waiters were last evaluated (elapsed time)."""
    stopped_ms: float = 0.0
    """The end of the last stop by which all waiters were evaluated (store time)."""

    def __len__(self) -> int:
        return len(self.order)

    def costs(self, most: int) -> list[Cost]:
        """The costs of the first `most` waiters, interactive ones first."""
        return [entry[2].cost for entry in islice(chain(*self.order.lists), most)]

    def head(self) -> Waiter:
        interactive, batch = self.order.lists
        return (interactive or batch)[0][2]

    def patience_s(self, now_s: float) -> float:
        """How long the most patient waiter can wait."""
        return max((entry[2].deadline_s for entry in chain(*self.order.lists)), default=now_s) - now_s


def _itself(model: str) -> str:
    return model


class WaitList:
    """The waiters of one project. `callers` counts each caller's waiting and open requests; `section` maps a model id to its
    section of the ledger."""

    def __init__(self, section: Callable[[str], str] = _itself) -> None:
        self._section = section
        self.models: dict[str, ModelWaitList] = {}
        """By section."""
        self._places: dict[int, str] = {}
        """The section that each waiter is listed in, by sequence number."""
        self.callers: dict[str, int] = {}
        self.interactive_s = -math.inf
        """When the last interactive request came (elapsed time)."""
        self._waiting: OrderedDict[int, Waiter] = OrderedDict()

    @property
    def count(self) -> int:
        return len(self._waiting)

    @property
    def oldest_s(self) -> float:
        """When the oldest waiter came (elapsed time); 0.0 if none waits."""
        return next(iter(self._waiting.values())).arrived_s if self._waiting else 0.0

    def weight(self, now_s: float, window_s: float, away: int) -> int:
        """The number of active callers, of which `away` are expected back; BATCH_ONLY if no interactive request waits or came for
        a window."""
        waits = any(model.order.lists[0] for model in self.models.values())
        if not waits and now_s - self.interactive_s > window_s:
            return BATCH_ONLY
        return max(1, len(self.callers) + away)

    def first_turn(self) -> tuple[float, int]:
        """The earliest turn over all models and priorities. At least one waiter must exist."""
        return min(order[0][:2] for model in self.models.values() for order in model.order.lists if order)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter.sequence in self._waiting

    def add(self, waiter: Waiter) -> None:
        self._list(waiter)
        last = next(reversed(self._waiting.values()), None)
        self._waiting[waiter.sequence] = waiter
        if last is not None and last.arrived_s > waiter.arrived_s:
            # It was put back, or offered to another project: about as old as the oldest.
            self._waiting.move_to_end(waiter.sequence, last=False)
        self.enter(waiter.caller)

    def remove(self, waiter: Waiter) -> None:
        """Unknown waiters are ignored."""
        if self._waiting.pop(waiter.sequence, None) is None:
            return
        self._unlist(waiter)
        self.leave(waiter.caller)

    def rename(self) -> None:
        """Move waiters whose ids count in other sections than before; they are evaluated again."""
        for waiter in list(self._waiting.values()):
            if self._section(waiter.model) != self._places[waiter.sequence]:
                self._unlist(waiter)
                waiter.evaluated = False
                self._list(waiter)

    def _list(self, waiter: Waiter) -> None:
        section = self._places[waiter.sequence] = self._section(waiter.model)
        model = self.models.setdefault(section, ModelWaitList())
        model.order.add(waiter)
        model.cost = model.cost.plus(waiter.cost)
        if not waiter.evaluated:
            model.not_evaluated[waiter.sequence] = waiter

    def _unlist(self, waiter: Waiter) -> None:
        section = self._places.pop(waiter.sequence)
        model = self.models[section]
        model.order.remove(waiter)
        model.not_evaluated.pop(waiter.sequence, None)
        model.cost = model.cost.minus(waiter.cost)
        if not len(model):
            del self.models[section]

    def enter(self, caller: str) -> None:
        self.callers[caller] = self.callers.get(caller, 0) + 1

    def leave(self, caller: str) -> None:
        left = self.callers[caller] - 1
        if left:
            self.callers[caller] = left
        else:
            del self.callers[caller]

    def turns(self, priorities: tuple[int, int], slots: int, closed: set[str]) -> Iterator[Waiter]:
        """Waiters that may be served, in order: at most `slots` + SCAN of each model, none of a model in `closed`.
        Safe against removal of those that were served."""

        def entries(model: str, priority: int) -> Iterator[Entry[Waiter]]:
            for entry in self.models[model].order.lists[priority][: slots + SCAN]:
                if model in closed:
                    return
                yield entry

        models = list(self.models)
        for priority in priorities:
            of_models = [entries(model, priority) for model in models if model in self.models]
            for _, _, waiter in merge(*of_models):
                if self._places.get(waiter.sequence) not in closed:
                    yield waiter


def at_least(cost: Cost, other: Cost) -> bool:
    return cost[0] >= other[0] and cost[1] >= other[1] and cost[2] >= other[2] and cost[3] >= other[3]
