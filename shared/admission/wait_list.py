"""What waits for one agent, with its sums kept as waiters come and go: nothing here grows with how many they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import chain, islice

from shared.admission.queue import Entry, Ordered, Waiter
from shared.generation import NO_COST, Cost

SCAN = 64
"""So many waiters of one model are tried per turn before the model is held to be without permits."""


@dataclass(slots=True)
class ModelWaitList:
    """The waiters of one model."""

    order: Ordered[Waiter] = field(default_factory=Ordered)
    cost: Cost = NO_COST
    """Of all together."""
    not_evaluated: dict[int, Waiter] = field(default_factory=dict)
    """Those about which the ledger has said nothing yet, by sequence."""
    evaluated_s: float = 0.0
    """When the ledger last spoke of this model, as far as its waiters were judged by it."""
    stopped_ms: float = 0.0
    """The end of the last stop by which all waiters were judged (the store's time)."""

    def __len__(self) -> int:
        return len(self.order)

    def costs(self, most: int) -> list[Cost]:
        """Of the first `most`, in serving order but for the batch priority's turns."""
        return [entry[2].cost for entry in islice(chain(*self.order.lists), most)]

    def head(self) -> Waiter:
        interactive, batch = self.order.lists
        return (interactive or batch)[0][2]

    def patience_s(self, now_s: float) -> float:
        """How long the most patient can wait."""
        return max((entry[2].deadline_s for entry in chain(*self.order.lists)), default=now_s) - now_s


def _itself(model: str) -> str:
    return model


class WaitList:
    """The waiters of one agent. `callers` counts those who wait or have a request open, by name; `section` tells in which
    section of the ledger an id counts."""

    def __init__(self, section: Callable[[str], str] = _itself) -> None:
        self._section = section
        self.models: dict[str, ModelWaitList] = {}
        """By section."""
        self._places: dict[int, str] = {}
        """By sequence, the section in whose line each waiter stands."""
        self.callers: dict[str, int] = {}
        self._waiting: OrderedDict[int, Waiter] = OrderedDict()

    @property
    def count(self) -> int:
        return len(self._waiting)

    @property
    def oldest_s(self) -> float:
        """When the oldest of them came (elapsed time); 0.0 when none waits."""
        return next(iter(self._waiting.values())).arrived_s if self._waiting else 0.0

    def first_turn(self) -> tuple[float, int]:
        """The earliest turn of those that wait, of any model and priority. There must be one."""
        return min(order[0][:2] for model in self.models.values() for order in model.order.lists if order)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter.sequence in self._waiting

    def add(self, waiter: Waiter) -> None:
        self._stand(waiter)
        last = next(reversed(self._waiting.values()), None)
        self._waiting[waiter.sequence] = waiter
        if last is not None and last.arrived_s > waiter.arrived_s:
            # It was put back, or offered to a further project: about as old as the oldest.
            self._waiting.move_to_end(waiter.sequence, last=False)
        self.enter(waiter.caller)

    def remove(self, waiter: Waiter) -> None:
        """Unknown waiters are ignored."""
        if self._waiting.pop(waiter.sequence, None) is None:
            return
        self._step_out(waiter)
        self.leave(waiter.caller)

    def rename(self) -> None:
        """Ids may count in other sections than before: those who wait for one of these are judged anew."""
        for waiter in list(self._waiting.values()):
            if self._section(waiter.model) != self._places[waiter.sequence]:
                self._step_out(waiter)
                waiter.evaluated = False
                self._stand(waiter)

    def _stand(self, waiter: Waiter) -> None:
        section = self._places[waiter.sequence] = self._section(waiter.model)
        model = self.models.setdefault(section, ModelWaitList())
        model.order.add(waiter)
        model.cost = model.cost.plus(waiter.cost)
        if not waiter.evaluated:
            model.not_evaluated[waiter.sequence] = waiter

    def _step_out(self, waiter: Waiter) -> None:
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
        """Who may be served, in order: of each model no more than `slots` and SCAN others, none once it is in `closed`.
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
