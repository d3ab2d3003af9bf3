"""When an agent talks to its ledger and what it says: decisions over what it holds and what waits, without I/O."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.admission.book import Book
from shared.admission.line import ModelLine
from shared.clock import elapsed_s
from shared.generation import NO_COST
from shared.ledger.circuit import circuits_of, open_until_ms, probe_ms_of, reason_of
from shared.ledger.packing import unpack
from shared.ledger.permits import IMMINENT_SLOTS
from shared.ledger.slots import Standing, claim_of, concurrency, free_what_is_over, standing
from shared.ledger.state import UNPROVEN, Demand, Renew, State
from shared.ledger.step import renew as renew_step
from shared.stores.port import Reading

if TYPE_CHECKING:
    from shared.admission.agent import Agent

FLEX_S = 5.0
"""Spare permits are asked for this long ahead (in a 60 s window), by SPARE_FACTOR of the rate at which requests come. They
last a little longer (`permits.FLEX_MS`): at few requests a second most would lapse otherwise."""
SPARE_FACTOR = 1.5
SPARE_LOW = 0.4
POLL_S = 0.25
"""While something is scarce the document is read this often; a write follows only if it would gain something."""
GAIN_SHARE = 0.25
"""A poll is followed by a write if it gains this share of what the instance gets within a horizon, or one permit."""
SPARE_POLL_S = 1.0
"""So often, while nothing is scarce as far as is known, one who holds more slots than it uses looks whether they are missed."""
TRY_AGAIN_S = 1.0
"""In a document that nobody has changed since, permits are looked for no sooner."""
PASSED_OVER_S = 1.0
"""Who is in turn for a free slot and does not take it for so long is passed over: it may have ended."""
DEFAULT_LEASE_S = 10.0
HOLD_S, HOLD_REQUESTS = 5.0, 2
"""An idle instance holds on for so long, where at least so many requests come within that time."""
HOLD_SLOTS, HOLD_DAY = 0.25, 0.01
"""So much of C may be held so if all instances hold as much, and so much of a day's requests by one."""


class Cadence:
    """The judgement of one agent. `message` and `gains` change what it may use, never to more than it was granted."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._lie_since_s = 0.0
        """Since when slots lie free that others have not taken; 0.0: none do."""
        self._unclaimed = False
        self._tried, self._tried_s = b"", 0.0
        """The document in which permits were last looked for, and when."""
        self.scarce = False
        """Whether somebody lacks slots, as far as the ledger told."""

    # -- when --------------------------------------------------------------------------------------------------------

    def wait_s(self) -> float | None:
        """How long until a renew (or a look at the ledger) is of use; None: nothing asks for one."""
        agent, line = self.agent, self.agent.line
        if agent.pending or self._news():
            return 0.0
        if not line.count and not agent.open:
            return None if agent.lingers() or not agent.holds() else 0.0
        if line.count and self._authority_left_s() <= 0:
            return 0.0
        waits: list[float] = []
        if line.count:
            if agent.in_use() >= agent.cap:
                waits.append(self._poll_s() if self.scarce else 0.0)
            now_s = elapsed_s()
            waits += [self._permit_wait_s(agent.book(name), model, now_s) for name, model in line.models.items()]
            waits.append(max(0.0, self._authority_left_s() - self._lease_s() / 2))
        elif max(agent.held, agent.claimed) > agent.in_use():
            waits.append(self._poll_s() if self.scarce else SPARE_POLL_S)
        if agent.held > max(agent.cap, agent.in_use()):
            waits.append(0.0 if agent.in_use() <= agent.cap else self._poll_s())
        if any(book.settled for book in agent.books.values()):
            # Reported while its booking is still counted, or another instance would count both.
            waits.append(max(0.0, self._authority_left_s()))
        if self._any_low():
            waits.append(0.0)
        return min(waits, default=None)

    def only_looks(self) -> bool:
        """Nothing is due. The ledger said that something is scarce: has that changed?"""
        agent, line = self.agent, self.agent.line
        if agent.pending or self._news() or agent.grant is None or not agent.clock.known:
            return False
        if not line.count and not agent.open:
            return False
        if (line.count and self._authority_left_s() <= self._lease_s() / 2) or self._any_low():
            return False
        if self._authority_left_s() <= 0 or agent.held > max(agent.cap, agent.in_use()):
            return False
        now_s = elapsed_s()
        if any(self._permit_wait_s(agent.book(name), model, now_s) <= 0 for name, model in line.models.items()):
            return False
        return self.scarce or not (line.count and agent.in_use() >= agent.cap)

    def _news(self) -> bool:
        """What Gemini answered and every instance must learn."""
        agent = self.agent
        return bool(agent.refusals or agent.names.unsaid) or any(book.answered_ms for book in agent.books.values())

    def _authority_left_s(self) -> float:
        return (self.agent.authority_ms - self.agent.clock.hi_ms()) / 1000 if self.agent.clock.known else 0.0

    def _lease_s(self) -> float:
        return self.agent.config.lease_s or DEFAULT_LEASE_S

    def _permit_wait_s(self, book: Book, waiting: ModelLine, now_s: float) -> float:
        if book.last is None:
            return max(0.0, book.retry_s - now_s)
        if book.blocked_ms:
            return self._shut_wait_s(book)
        if not self.agent.cap or self._enough(book, waiting):  # Without a slot no permit is of use.
            return self._lease_s()
        if now_s >= book.retry_s:
            return 0.0
        return min(book.retry_s - now_s, self._poll_s())

    def _shut_wait_s(self, book: Book) -> float:
        """Until the cool-down is over nothing changes; then somebody tries, and who waits looks what came of it."""
        until_ms = book.tried_ms or book.blocked_ms
        return max(self._poll_s(), min((until_ms - self.agent.clock.lo_ms()) / 1000, self._lease_s()))

    def _enough(self, book: Book, waiting: ModelLine) -> bool:
        """The first can be served, and half of those that come soon: asking again for each one would be a write each."""
        hi_ms = self.agent.clock.hi_ms()
        if not book.serves(waiting.head().cost, hi_ms):
            return False
        have, part = book.available(hi_ms), min(1.0, self._served_soon(book) / len(waiting))
        return not any(
            metered and 2 * have[k] < part * waiting.cost[k] for k, metered in enumerate(book.effective.metered)
        )

    def _served_soon(self, book: Book) -> float:
        """How many of those that wait can be served before the horizon: by slots, and by twice the rate, since others may
        leave some of theirs."""
        if book.last is None or not book.last.per_s or self.agent.grant is None:
            return self.soon()
        return min(self.soon(), 2 * book.last.per_s * self.agent.grant.horizon_ms / 1000)

    @staticmethod
    def _poll_s() -> float:
        return POLL_S * random.uniform(0.5, 1.0)

    def _any_low(self) -> bool:
        return any(self._runs_low(book) for book in self.agent.books.values())

    def _runs_low(self, book: Book) -> bool:
        """In plenty: too little is booked for what is expected soon."""
        if book.last is None or book.blocked_ms or book.last.unmet.requests or not any(book.effective.metered):
            return False
        spare = self.spare(book)
        if spare < 2 or elapsed_s() < max(book.retry_s, book.spare_retry_s):
            return False
        soon_slot = book.grid.slot(self.agent.clock.lo_ms() + (1 - SPARE_LOW) / 2 * self.flex_s() * 1000)
        lasting = sum(held.available.requests for v, held in book.held.items() if v.last >= soon_slot)
        return lasting < SPARE_LOW * spare

    def linger_s(self) -> float:
        """How long an idle instance keeps what it has; 0.0: others could miss it, or no request is expected soon."""
        agent = self.agent
        if agent.grant is None or self.scarce:
            return 0.0
        if agent.config.linger_s and agent.grant.instances <= 1:
            return agent.config.linger_s
        return self._hold_s(agent.grant.instances) if agent.config.holds_on else 0.0

    def _hold_s(self, instances: int) -> float:
        """The same where this process may be stopped while it holds on."""
        agent, per_s = self.agent, sum(book.per_s for book in self.agent.books.values())
        if self._authority_left_s() <= 0 or per_s * HOLD_S < HOLD_REQUESTS:
            return 0.0
        if agent.held * instances > HOLD_SLOTS * agent.account.concurrency:
            return 0.0
        for book in agent.books.values():
            per_day = book.effective.requests_per_day
            if book.last is None or book.blocked_ms or book.last.unmet.requests:
                return 0.0
            if per_day is not None and self.spare(book) > HOLD_DAY * per_day:
                return 0.0
        return HOLD_S

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
        return max(1, agent.cap - agent.in_use() + turns + 1)

    # -- what --------------------------------------------------------------------------------------------------------

    def message(self) -> Renew:
        """What to tell the ledger now. Surplus permits are given up with it."""
        agent = self.agent
        wanted = self._wanted()
        demands = {}
        for model in {*agent.books, *agent.line.models}:
            demand = self._demand(model, wanted)
            if demand is not None:
                demands[model] = demand
        busy = any(self.spare(book) for book in agent.books.values())
        spare_slots = (max(0, agent.peak - wanted) + 2) if wanted and busy else 0
        message = self._renew(wanted, demands)
        in_use = agent.in_use()
        hold = max(in_use, min(agent.cap, wanted + spare_slots)) if wanted else in_use
        unclaimed, self._unclaimed = self._unclaimed, False
        return replace(
            message,
            hold=hold,
            ends_ms=() if wanted else agent.cancelled.ends_ms(agent.clock.hi_ms()),
            spare_slots=spare_slots,
            unclaimed=unclaimed,
            refusals=tuple(agent.refusals),
            names=tuple(agent.names.unsaid),
        )

    def _wanted(self) -> int:
        """Slots that requests need now, or needed at once lately; 0 when nothing is open and nothing waits."""
        if self.agent.idle():
            return 0
        in_use, waiting = self.agent.in_use(), self.agent.line.count
        unproven = self.agent.line.models.get(UNPROVEN)
        if unproven is not None:
            waiting -= len(unproven) - 1  # One of them may begin.
        return max(in_use + waiting, self.agent.busiest)

    def _renew(self, wanted: int, demands: dict[str, Demand]) -> Renew:
        agent, line = self.agent, self.agent.line
        lo_ms = agent.clock.lo_ms() if agent.clock.known else 0.0
        return Renew(
            instance=agent.config.instance,
            number=agent.number + 1,
            lo_ms=int(lo_ms),
            concurrency=agent.account.concurrency,
            tau_ms=int(agent.config.tau_s * 1000),
            lease_ms=int((agent.config.lease_s or 0) * 1000),
            want_slots=wanted,
            oldest_ms=int(lo_ms - (elapsed_s() - line.oldest_s) * 1000) if line.count else 0,
            # A rejected caller who is expected back still counts: or else an instance that rejects more asks for ever less.
            callers=max(1, len(line.callers) + agent.callers_away()),
            demands=demands,
        )

    def _demand(self, model: str, wanted: int) -> Demand | None:
        book, waiting = self.agent.book(model), self.agent.line.models.get(model)
        costs = waiting.costs(self.soon()) if waiting else []
        spare = self.spare(book) if wanted else 0
        book.trim((len(costs) + spare) if wanted else 0)
        book.expire(self.agent.clock.hi_ms())
        if not (wanted or book.held or book.settled or book.has_news):
            del self.agent.books[model]
            return None
        reach_ms = int(waiting.patience_s(elapsed_s()) * 1000) if waiting else 0
        return book.demand(costs, spare, reach_ms, self.agent.clock.hi_ms())

    # -- looking -----------------------------------------------------------------------------------------------------

    def gains(self, reading: Reading) -> bool:
        """Whether a renew is of use, by what the ledger's document says now. Slots that others are due are no longer used
        from now on; a renew returns them once they are free."""
        if reading.value is None:
            return True
        state, now_ms = unpack(reading.value), int(reading.sample.server_ms)
        state.now_ms = max(state.now_ms, now_ms)
        free_what_is_over(state, state.now_ms)
        self.agent.renamed(self.agent.names.hear(state.names))
        self._hear_of_refusals(state)
        if self._changes_slots(state):
            return True
        if reading.value == self._tried and elapsed_s() < self._tried_s + TRY_AGAIN_S:
            return False
        self._tried, self._tried_s = reading.value, elapsed_s()
        return self._gets_permits(state, now_ms)

    def _hear_of_refusals(self, state: State) -> None:
        """A model that another instance's probe has opened again is served here from now on, without a write; one that was
        stopped is not."""
        for model, book in self.agent.books.items():
            section = state.sections.get(model)
            circuits = circuits_of(state, section)
            if book.single:
                # A turn of unproven ids is only taken with a write: one that is over here may still stand in the document.
                if circuits:
                    book.told(open_until_ms(circuits), 0, reason_of(circuits))
            elif circuits or (book.blocked_ms and section is not None):
                probe_ms = probe_ms_of(circuits, self.agent.config.instance, model)
                book.told(open_until_ms(circuits), probe_ms, reason_of(circuits))
        self.agent.keep_refusals()

    def _changes_slots(self, state: State) -> bool:
        """While everyone holds its fair share nothing is written. Slots change hands when somebody is due a whole one."""
        agent, me = self.agent, self.agent.config.instance
        lease = state.leases.get(me)
        if lease is None or agent.grant is None:
            return True
        c = concurrency(state, agent.account.concurrency, state.now_ms)
        wanted = self._wanted()
        place = standing(state, me, claim_of(self._renew(wanted, {}), state.now_ms), c)
        known = standing(state, me, claim_of(lease, state.now_ms), c)
        self.scarce = place.owed > 0 or place.free <= 0
        agent.busiest = agent.in_use()
        gives = min(place.held - place.due, max(0, place.owed - place.free))
        agent.cap = min(agent.grant.cap, place.held - max(0, gives))
        if agent.held > max(agent.cap, agent.in_use()):
            return True
        ahead = place.due - place.held
        return self._may_take(place, wanted) or (ahead > 0 and place.due != known.due)

    def _may_take(self, place: Standing, wanted: int) -> bool:
        """Free slots are those instances' first whose requests wait longest, unless they let them lie."""
        mine = place.due > place.held and place.before < place.free
        if mine or place.free < 1 or wanted <= place.held:
            self._lie_since_s = 0.0
            return mine
        now_s = elapsed_s()
        self._lie_since_s = self._lie_since_s or now_s
        self._unclaimed = now_s - self._lie_since_s > PASSED_OVER_S
        return self._unclaimed

    def _gets_permits(self, state: State, now_ms: int) -> bool:
        """Try it on a copy of the ledger: would whoever lacks permits get some for now?

        Those further ahead are its share of slots that were always there: they can wait for the next renew."""
        agent = self.agent
        if not agent.cap:
            return False
        demands, least = {}, {}
        for name, waiting in agent.line.models.items():
            book = agent.book(name)
            shut = book.blocked_ms > 0
            if shut and (book.tried_ms or agent.clock.lo_ms() < book.blocked_ms):
                continue
            if book.last is not None and (shut or not self._enough(book, waiting)):
                share = book.last.per_s * agent.grant.horizon_ms / 1000 if agent.grant else 0.0
                hi_ms = agent.clock.hi_ms()
                have = book.available(hi_ms).requests
                least[name] = 1 if shut else max(1, min(math.ceil(GAIN_SHARE * share), len(waiting) - have))
                costs = waiting.costs(min(self.soon(), have + least[name]))
                demands[name] = book.demand(costs, 0, 0, hi_ms)
        if not demands:
            self._tried = b""
            return False
        grant = renew_step(state, self._renew(self._wanted(), demands), now_ms, agent.config.grid)
        soon = agent.config.grid.slot(now_ms) + IMMINENT_SLOTS
        # Of names that the ledger has yet to hear from here it thinks otherwise.
        found = {name: one for name, one in grant.allotments.items() if name in demands}
        if any(one.probe_ms and one.probe_ms != agent.book(name).probe_ms for name, one in found.items()):
            return True
        return any(
            sum(
                cost.requests - demands[name].kept.get(validity, NO_COST).requests
                for validity, cost in allotment.bookings.items()
                if validity.first <= soon
            )
            >= least[name]
            for name, allotment in found.items()
        )
