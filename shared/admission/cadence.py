"""When an agent talks to its ledger and what it says: decisions over what it holds and what waits, without I/O."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.admission.book import Book
from shared.clock import elapsed_s
from shared.generation import NO_COST, Cost
from shared.ledger.packing import unpack
from shared.ledger.permits import IMMINENT_SLOTS
from shared.ledger.slots import concurrency, in_turn
from shared.ledger.state import Demand, Renew
from shared.ledger.step import renew as renew_step
from shared.stores.port import Reading

if TYPE_CHECKING:
    from shared.admission.agent import Agent

FLEX_S = 5.0
"""Spare permits are asked for this long ahead (in a 60 s window), by SPARE_FACTOR of the rate at which requests come."""
SPARE_FACTOR = 1.5
SPARE_LOW = 0.4
POLL_S = 0.25
"""While something is scarce the document is read this often; a write follows only if it would gain something."""
GAIN_SHARE = 0.25
"""A poll is followed by a write if it gains this share of what the instance gets within a horizon, or one permit."""
DRAIN_S = 0.05
PASSED_OVER_S = 2.0
"""Who is in turn for a free slot and does not take it for so long is passed over: it may have ended."""
DEFAULT_LEASE_S = 10.0


@dataclass(slots=True)
class Line:
    """What waits for an agent, as its queue sees it: per model the costs in serving order, and the head's patience."""

    costs: dict[str, list[Cost]]
    patience_s: dict[str, float]
    oldest_s: float
    """When the oldest of them came (elapsed time); 0.0 when none waits."""
    callers: int
    count: int


class Cadence:
    """The judgement of one agent. `message` with `peek=False` is the only method that changes it (it returns surplus)."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._passed_over_s = 0.0

    # -- when --------------------------------------------------------------------------------------------------------

    def wait_s(self, line: Line) -> float | None:
        """How long until a renew (or a look at the ledger) is of use; None: nothing asks for one."""
        agent = self.agent
        if agent.pending or agent.refusals:
            return 0.0
        if not line.count and not agent.open:
            return None if agent.lingers() or not agent.holds() else 0.0
        if line.count and self._authority_left_s() <= 0:
            return 0.0
        waits: list[float] = []
        if line.count:
            if len(agent.open) >= agent.cap:
                waits.append(0.0 if agent.grant is None or not agent.grant.scarce_slots else self._poll_s())
            now_s = elapsed_s()
            waits += [self._permit_wait_s(agent.book(model), costs, now_s) for model, costs in line.costs.items()]
            waits.append(max(0.0, self._authority_left_s() - self._lease_s() / 2))
        elif agent.held > len(agent.open):
            # What a request that goes on alone does not need is missed by others sooner or later.
            scarce = agent.grant is not None and agent.grant.scarce_slots
            waits.append(self._poll_s() if scarce else max(0.0, self._authority_left_s() - self._lease_s() / 2))
        if self._owes_slots():
            waits.append(DRAIN_S)
        if any(book.settled for book in agent.books.values()):
            # Reported while its booking is still counted, or another instance would count both.
            waits.append(max(0.0, self._authority_left_s()))
        if self._any_low():
            waits.append(0.0)
        return min(waits, default=None)

    def only_looks(self, line: Line) -> bool:
        """Nothing is due. The ledger said that something is scarce: has that changed?"""
        agent = self.agent
        if agent.pending or agent.refusals or agent.grant is None or not agent.clock.known:
            return False
        if not line.count and not agent.open:
            return False  # What is held is to be returned, and that is a write.
        if self._authority_left_s() <= self._lease_s() / 2 or self._any_low() or self._owes_slots():
            return False
        now_s = elapsed_s()
        if any(self._permit_wait_s(agent.book(model), costs, now_s) <= 0 for model, costs in line.costs.items()):
            return False
        return not (line.count and len(agent.open) >= agent.cap and not agent.grant.scarce_slots)

    def _authority_left_s(self) -> float:
        return (self.agent.authority_ms - self.agent.clock.hi_ms()) / 1000 if self.agent.clock.known else 0.0

    def _lease_s(self) -> float:
        return self.agent.config.lease_s or DEFAULT_LEASE_S

    def _permit_wait_s(self, book: Book, costs: list[Cost], now_s: float) -> float:
        if not costs:
            return self._lease_s()
        if book.last is None:
            return max(0.0, book.retry_s - now_s)
        if self._enough(book, costs[: self.soon()]):
            return self._lease_s()
        if now_s >= book.retry_s:
            return 0.0
        return min(book.retry_s - now_s, self._poll_s())

    def _enough(self, book: Book, costs: list[Cost]) -> bool:
        """The first can be served, and half of all: asking again for each one would be a write each."""
        if not book.serves(costs[0], self.agent.clock.hi_ms()):
            return False
        have = book.available(self.agent.clock.hi_ms())
        for k, metered in enumerate(book.effective.metered):
            if metered and 2 * have[k] < sum(cost[k] for cost in costs):
                return False
        return True

    @staticmethod
    def _poll_s() -> float:
        return POLL_S * random.uniform(0.5, 1.0)

    def _any_low(self) -> bool:
        return any(self._runs_low(book) for book in self.agent.books.values())

    def _runs_low(self, book: Book) -> bool:
        """In plenty: too little is booked for what is expected soon."""
        if book.last is None or book.last.unmet.requests or not any(book.effective.metered):
            return False
        spare = self.spare(book)
        if spare < 2 or elapsed_s() < max(book.retry_s, book.spare_retry_s):
            return False
        soon_slot = book.grid.slot(self.agent.clock.lo_ms() + (1 - SPARE_LOW) / 2 * self.flex_s() * 1000)
        lasting = sum(held.available.requests for v, held in book.held.items() if v.last >= soon_slot)
        return lasting < SPARE_LOW * spare

    def _owes_slots(self) -> bool:
        """The ledger lowered the cap below what was open then; by now enough of it has ended."""
        return self.agent.held > self.agent.cap and len(self.agent.open) <= self.agent.cap

    # -- how much ----------------------------------------------------------------------------------------------------

    def flex_s(self) -> float:
        return FLEX_S * self.agent.config.grid.window_ms / 60_000

    def spare(self, book: Book) -> int:
        """Requests that will come within a flexible booking's life, as things go."""
        return round(book.per_s * self.flex_s() * SPARE_FACTOR)

    def soon(self) -> int:
        """How many requests can be dispatched before the horizon, by the slots at hand and the time one takes; >= 1."""
        agent = self.agent
        if agent.grant is None or not agent.service_s or not agent.cap:
            return agent.account.concurrency * 4
        turns = int(agent.cap * agent.grant.horizon_ms / 1000 / agent.service_s)
        return max(1, agent.cap - len(agent.open) + turns + 1)

    # -- what --------------------------------------------------------------------------------------------------------

    def message(self, line: Line, *, peek: bool = False) -> Renew:
        """What to tell the ledger now. A peek changes nothing here."""
        agent = self.agent
        lo_ms = agent.clock.lo_ms() if agent.clock.known else 0.0
        wanted = len(agent.open) + line.count
        demands = {}
        for model in {*agent.books, *line.costs}:
            demand = self._demand(model, line, wanted, peek)
            if demand is not None:
                demands[model] = demand
        waited_ms = (elapsed_s() - line.oldest_s) * 1000 if line.oldest_s else 0.0
        busy = any(self.spare(book) for book in agent.books.values())
        spare_slots = (max(0, agent.peak - wanted) + 2) if wanted and busy else 0
        return Renew(
            instance=agent.config.instance,
            number=agent.number + 1,
            lo_ms=int(lo_ms),
            concurrency=agent.account.concurrency,
            tau_ms=int(agent.config.tau_s * 1000),
            lease_ms=int((agent.config.lease_s or 0) * 1000),
            hold=max(len(agent.open), min(agent.cap, wanted + spare_slots)),
            want_slots=wanted,
            spare_slots=spare_slots,
            oldest_ms=int(lo_ms - waited_ms) if line.oldest_s else 0,
            callers=max(1, line.callers),
            demands=demands,
            refusals=tuple(agent.refusals),
        )

    def _demand(self, model: str, line: Line, wanted: int, peek: bool) -> Demand | None:
        book, costs = self.agent.book(model), line.costs.get(model, [])[: self.soon()]
        spare = self.spare(book) if wanted else 0
        if not peek:
            book.trim((len(costs) + spare) if wanted else 0)
            book.expire(self.agent.clock.hi_ms())
            if not (wanted or book.held or book.settled):
                del self.agent.books[model]
                return None
        return book.demand(costs, spare, int(line.patience_s.get(model, 0.0) * 1000), self.agent.clock.hi_ms())

    def gains(self, reading: Reading, line: Line) -> bool:
        """Try the renew on a copy of the ledger: would it get slots, or permits for now, that it does not have; or owe some?

        Permits further ahead are its share of slots that were always there: they can wait for the next renew."""
        agent, now_ms = self.agent, int(reading.sample.server_ms)
        if reading.value is None:
            return True
        state, message = unpack(reading.value), self.message(line, peek=True)
        c = concurrency(state, agent.account.concurrency, now_ms)
        turn = in_turn(state, agent.config.instance, c)
        grant = renew_step(state, message, now_ms, agent.config.grid)
        if grant.cap < agent.cap or self._may_take_slot(grant.cap > agent.cap and len(agent.open) >= agent.cap, turn):
            return True
        soon = agent.config.grid.slot(now_ms) + IMMINENT_SLOTS
        for model, allotment in grant.allotments.items():
            kept, last = message.demands[model].kept, agent.books[model].last
            gained = allotment.bookings.items() - kept.items()
            new = sum(c.requests - kept.get(v, NO_COST).requests for v, c in gained if v.first <= soon)
            share = (last.per_s if last else 0.0) * grant.horizon_ms / 1000
            if new >= max(1.0, GAIN_SHARE * share):
                return True
        return False

    def _may_take_slot(self, free: bool, turn: bool) -> bool:
        """A free slot is the oldest's, unless that one lets it lie."""
        if not free or turn:
            self._passed_over_s = 0.0
            return free
        now_s = elapsed_s()
        self._passed_over_s = self._passed_over_s or now_s
        return now_s - self._passed_over_s > PASSED_OVER_S
