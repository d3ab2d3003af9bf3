"""What this process does next about one project's ledger: when to contact it, and what to ask for. Pure.

Every method returns a value and changes nothing: `project` carries decisions out, `holdings` changes what may be spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from shared.admission import budget
from shared.admission.decisions import IDLE, Action, Assessment, Contact, Linger, Looked, Message
from shared.admission.holdings import Holdings, Need, Plan, SlotLimit
from shared.admission.ledger_document import Document
from shared.admission.model_permits import ModelPermits
from shared.admission.server_clock import Instant
from shared.admission.wait_list import ModelWaitList, WaitList
from shared.generation import NO_COST
from shared.ledger.parties import FEW
from shared.ledger.permits import IMMINENT_SLOTS
from shared.ledger.slots import Standing, claim_of, concurrency, lacking, standing
from shared.ledger.state import UNPROVEN, Demand, RenewRequest, RenewResult
from shared.ledger.step import renew as renew_step

SLOTS_EARLY = 0.25
"""Where permits are scarce, more slots are requested this part of the horizon after the last grant at the earliest."""
GAIN_SHARE = 0.25
"""A read is followed by a write if it gains this share of what the instance gets within a horizon, or one permit."""
TRY_AGAIN_S = 1.0
"""Minimum time before permits are looked for again in an unchanged document."""
PASSED_OVER_S = 1.0
"""An instance that is due a free slot and has not taken it for this long is passed over: it may have ended."""
DEFAULT_LEASE_S = 10.0
MIN_FREE_SLOTS, MAX_HOLD_DAY = 0.1, 0.01
"""Bounds for idle holding: the share of C that no instance may hold meanwhile, and of the daily quota per instance."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Decides from what is held and which requests wait. `uniform` is random.uniform: instances must not poll in step."""

    holdings: Holdings
    waiting: WaitList
    uniform: Callable[[float, float], float]

    # -- when --------------------------------------------------------------------------------------------------------

    def next_action(self, at: Instant, *, pending: bool) -> Action:
        """`pending`: whether a renew was sent whose result is not known yet."""
        holdings, waiting = self.holdings, self.waiting
        if pending or holdings.has_news():
            return Contact(0.0)
        if not waiting.count and not holdings.open:
            linger_s = self.linger_s(at)
            if linger_s:
                return Linger(linger_s)
            return Contact(0.0) if holdings.has_unreported() else IDLE
        left_s = self._authority_left_s(at)
        if waiting.count and (left_s <= 0 or holdings.extend):
            return Contact(0.0)
        in_use = holdings.in_use(at.now_s)
        waits: list[float] = []
        if waiting.count:
            if in_use >= holdings.cap and self._slots_bind(at):
                waits.append(self._poll_s() if holdings.scarce else 0.0)
            waits += [self._permit_wait_s(holdings.view(name), model, at) for name, model in waiting.models.items()]
            waits.append(max(0.0, left_s - self._lease_s() / 2))
        elif max(holdings.held, holdings.claimed) > in_use:
            waits.append(self._poll_s() if holdings.scarce else budget.spare_poll_s(self._instances()))
        if holdings.held > max(holdings.cap, in_use):
            give_s = 0.0 if in_use <= holdings.cap else self._poll_s()
            waits.append(give_s if holdings.scarce else budget.spare_poll_s(self._instances()))
        if any(permits.settled for permits in holdings.models.values()):
            # A dispatch is reported while its booking is still counted: otherwise the ledger would count both.
            waits.append(max(0.0, left_s))
        if self._any_low(at):
            waits.append(0.0)
        return Contact(min(waits)) if waits else IDLE

    def contact(self, at: Instant, *, pending: bool) -> Literal["read", "renew"]:
        """What to do on contact. A read suffices where nothing is due but the ledger said that something is scarce, which may
        have changed."""
        holdings, waiting = self.holdings, self.waiting
        if pending or holdings.has_news() or holdings.grant is None or not at.known:
            return "renew"
        if not waiting.count and not holdings.open:
            return "renew"
        left_s, in_use = self._authority_left_s(at), holdings.in_use(at.now_s)
        if (waiting.count and (left_s <= self._lease_s() / 2 or holdings.extend)) or self._any_low(at):
            return "renew"
        if left_s <= 0 or (holdings.scarce and holdings.held > max(holdings.cap, in_use)):
            return "renew"
        models = waiting.models.items()
        if any(self._permit_wait_s(holdings.view(name), model, at) <= 0 for name, model in models):
            return "renew"
        lacks = waiting.count and in_use >= holdings.cap and self._slots_bind(at)
        return "read" if holdings.scarce or not lacks else "renew"

    def _slots_bind(self, at: Instant) -> bool:
        """Whether requests wait for a slot, and not for permits: scarce ones are booked for times when a slot is free."""
        if not self.holdings.cap or not self._many():
            return True
        grant = self.holdings.grant
        early_s = SLOTS_EARLY * grant.horizon_ms / 1000 if grant is not None else 0.0
        models = (self.holdings.view(section) for section in self.waiting.models)
        return any(
            one.last is None
            or not one.scarce
            or (at.now_s >= one.updated_s + early_s and one.any_valid(at.earliest_ms, at.latest_ms))
            for one in models
        )

    def _authority_left_s(self, at: Instant) -> float:
        return (self.holdings.authority_ms - at.latest_ms) / 1000 if at.known else 0.0

    def _lease_s(self) -> float:
        return self.holdings.config.lease_s or DEFAULT_LEASE_S

    def _permit_wait_s(self, permits: ModelPermits, waiting: ModelWaitList, at: Instant) -> float:
        if permits.last is None:
            return max(0.0, permits.retry_s - at.now_s)
        if permits.open_until_ms:
            return self._circuit_wait_s(permits, at)
        holdings = self.holdings
        if not holdings.cap or self._suffices(permits, waiting, holdings.cap, at):  # Permits need a slot.
            return self._lease_s()
        if at.now_s >= permits.retry_s:
            return 0.0
        return min(permits.retry_s - at.now_s, self._jittered(budget.permit_poll_s(self._instances())))

    def _instances(self) -> int:
        """How many instances were active at the last renew."""
        return self.holdings.grant.instances if self.holdings.grant is not None else 1

    def _many(self) -> bool:
        return self._instances() > FEW

    def _horizon_ms(self) -> int:
        """How far ahead scarce permits are requested for requests that have not arrived yet; 0 where instances are few."""
        grant = self.holdings.grant
        return grant.horizon_ms if grant is not None and self._many() else 0

    def _circuit_wait_s(self, permits: ModelPermits, at: Instant) -> float:
        """How long nothing changes: until the circuit is half-open. Then one instance sends the probe, and the others read its
        result."""
        until_ms = permits.probing_ms or permits.open_until_ms
        return max(self._poll_s(), min((until_ms - at.earliest_ms) / 1000, self._lease_s()))

    def _suffices(self, permits: ModelPermits, waiting: ModelWaitList, cap: int, at: Instant) -> bool:
        """Whether the first waiting request can be served, and half of those that can begin soon. Otherwise each single
        request would cost a renew."""
        if not permits.serves(waiting.head().cost, at.latest_ms):
            return False
        have = permits.available(at.latest_ms)
        part = min(1.0, self._served_soon(permits, cap, at) / len(waiting))
        return not any(
            metered and 2 * have[k] < part * waiting.cost[k] for k, metered in enumerate(permits.effective.metered)
        )

    def _served_soon(self, permits: ModelPermits, cap: int, at: Instant) -> float:
        """How many waiting requests can be served before the horizon: by slots, and by twice the rate, since other instances may
        leave some of theirs."""
        soon, grant = self._soon(cap, at), self.holdings.grant
        if permits.last is None or not permits.last.per_s or grant is None:
            return soon
        return min(soon, 2 * permits.last.per_s * grant.horizon_ms / 1000)

    def _poll_s(self) -> float:
        return self._jittered(budget.slot_poll_s(self.holdings.lacking, self.holdings.cap))

    def _jittered(self, interval_s: float) -> float:
        return interval_s * self.uniform(0.8 if self._many() else 0.5, 1.0)

    def _any_low(self, at: Instant) -> bool:
        # Without a slot no permit is of use.
        return self.holdings.cap > 0 and any(self._runs_low(one, at) for one in self.holdings.models.values())

    def _runs_low(self, permits: ModelPermits, at: Instant) -> bool:
        """Whether, while permits are plentiful, too few are booked for the requests that are expected soon."""
        last = permits.last
        unmet = last is None or (permits.scarce if self._many() else last.unmet.requests)
        if unmet or permits.open_until_ms or not any(permits.effective.metered):
            return False
        spare = self._spare(permits, at.now_s)
        if spare < 2 or at.now_s < max(permits.retry_s, permits.spare_retry_s):
            return False
        return budget.runs_low(permits, spare, at.earliest_ms, self._horizon_ms())

    def linger_s(self, at: Instant) -> float:
        """How long an idle instance keeps what it holds; 0.0 where another instance could need it, or where no request is
        expected soon."""
        holdings = self.holdings
        grant, config = holdings.grant, holdings.config
        if grant is None or holdings.scarce:
            return 0.0
        if config.linger_s and grant.instances <= 1:
            return config.linger_s
        if not config.holds_on or not self._may_hold(grant, at):
            return 0.0
        return budget.hold_s(sum(permits.per_s for permits in holdings.models.values()), many=self._many())

    def _may_hold(self, grant: RenewResult, at: Instant) -> bool:
        """Whether an idle instance that may be stopped at any time keeps what it holds."""
        holdings = self.holdings
        if self._authority_left_s(at) <= 0:
            return False
        c = holdings.account.concurrency
        if grant.free_slots < MIN_FREE_SLOTS * c or (not self._many() and holdings.held * grant.instances > c / 4):
            return False
        for permits in holdings.models.values():
            per_day = permits.effective.requests_per_day
            if permits.last is None or permits.open_until_ms or permits.last.unmet.requests:
                return False
            if per_day is not None and self._spare(permits, at.now_s) > MAX_HOLD_DAY * per_day:
                return False
        return True

    def retry_s(self, grant: RenewResult) -> float:
        """How long after `grant` permits that it did not grant are asked for again."""
        return budget.renew_s(grant, self.holdings.config.grid) * self.uniform(
            *((0.8, 1.05) if self._many() else (0.92, 1.08))
        )

    # -- how much ----------------------------------------------------------------------------------------------------

    def _spare(self, permits: ModelPermits, now_s: float) -> int:
        waited_s = now_s - self.waiting.oldest_s if self.waiting.count else 0.0
        return budget.spare_requests(permits, self._horizon_ms(), waited_s)

    def _soon(self, cap: int, at: Instant) -> int:
        """How many requests can be dispatched before the horizon with `cap` slots and the time that an exchange takes; >= 1."""
        holdings = self.holdings
        if holdings.grant is None or not holdings.service_s or not cap:
            return holdings.account.concurrency * 4
        turns = int(cap * holdings.grant.horizon_ms / 1000 / holdings.service_s)
        return max(1, cap - holdings.in_use(at.now_s) + turns + 1)

    # -- what --------------------------------------------------------------------------------------------------------

    def plan(self, at: Instant, looked: Looked, message: Message) -> Plan:
        """The next renew. `holdings` gives up surplus permits when it prepares it."""
        holdings = self.holdings
        in_use = holdings.in_use(at.now_s)
        wanted = self._wanted(in_use, holdings.busiest)
        busy = any(self._spare(permits, at.now_s) for permits in holdings.models.values())
        spare_slots = (max(0, holdings.peak - wanted) + 2) if wanted and busy else 0
        if holdings.grant is not None and self._many():
            spare_slots = min(spare_slots, max(0, holdings.account.concurrency // holdings.grant.instances - wanted))
        cancelled_ms = holdings.cancelled.ends_ms(at.now_s, at.latest_ms)
        request = replace(
            self._request(wanted, {}, message, at),
            hold=max(in_use, min(holdings.cap, wanted + spare_slots)) if wanted else in_use,
            ends_ms=() if wanted else cancelled_ms,
            spare_slots=spare_slots,
            unclaimed=looked.unclaimed,
        )
        if wanted:
            open_until_ms = max((holdings.deadlines.open_until_ms(at.now_s, at.latest_ms), *cancelled_ms))
            request = replace(request, tau_ms=holdings.deadlines.expected_ms(at.now_s), open_until_ms=open_until_ms)
        sections = dict.fromkeys([*holdings.models, *self.waiting.models])
        return Plan(request, {section: self._need(section, wanted, at) for section in sections})

    def _wanted(self, in_use: int, busiest: int) -> int:
        """Slots that requests need now, or recently needed at once; 0 while nothing is open and nothing waits."""
        if not self.holdings.open and not self.waiting.count:
            return 0
        waiting = sum(self._may_begin(name, len(model)) for name, model in self.waiting.models.items())
        return max(in_use + waiting, busiest)

    def _may_begin(self, section: str, waiting: int) -> int:
        """How many of the waiting requests need a slot of their own: where permits are scarce, as many as the
        rate keeps open, and one more."""
        if section == UNPROVEN:
            return 1  # One at a time.
        last, service_s = self.holdings.view(section).last, self.holdings.service_s
        if last is None or not last.per_s or not service_s or not self._many():
            return waiting
        return min(waiting, math.ceil(last.per_s * service_s) + 1)

    def _request(self, wanted: int, demands: dict[str, Demand], message: Message, at: Instant) -> RenewRequest:
        holdings, waiting, config = self.holdings, self.waiting, self.holdings.config
        earliest_ms = at.earliest_ms if at.known else 0.0
        return RenewRequest(
            instance=config.instance,
            number=message.number,
            earliest_ms=int(earliest_ms),
            concurrency=holdings.account.concurrency,
            tau_ms=int(config.tau_s * 1000),
            limits_version=holdings.account.limits_version,
            open_slots=holdings.in_use(at.now_s),
            service_ms=int(holdings.service_s * 1000),
            lease_ms=int((config.lease_s or 0) * 1000),
            exhaustion=config.exhaustion,
            want_slots=wanted,
            oldest_ms=int(earliest_ms - (at.now_s - waiting.oldest_s) * 1000) if waiting.count else 0,
            # Rejected callers that are expected back still count: otherwise an instance that rejects more would ask for less.
            callers=waiting.weight(at.now_s, config.grid.window_ms / 1000, message.callers_away),
            demands=demands,
        )

    def _need(self, section: str, wanted: int, at: Instant) -> Need:
        waiting = self.waiting.models.get(section)
        permits = self.holdings.view(section)
        spare = self._spare(permits, at.now_s) if wanted else 0
        spare_ms = int(1000 * budget.ahead_s(permits, self._horizon_ms()))
        if waiting is None:
            return Need([], spare, spare_ms)
        costs = waiting.costs(self._soon(max(1, self.holdings.cap), at))
        return Need(costs, spare, spare_ms, int(waiting.patience_s(at.now_s) * 1000))

    # -- after a read ------------------------------------------------------------------------------------------------

    def assess(self, document: Document, looked: Looked, message: Message, at: Instant) -> Assessment:
        """Whether the document shows that a renew would help, and which slots may still be used until then. While every
        instance holds its fair share nothing is written: slots change hands when an instance is due a whole one."""
        holdings, state, me = self.holdings, document.state, self.holdings.config.instance
        lease, grant = state.leases.get(me), holdings.grant
        if lease is None or grant is None:
            return Assessment(True, SlotLimit(holdings.cap, holdings.scarce, lacking(state, me)), looked)
        c = concurrency(state, holdings.account.concurrency, state.now_ms, holdings.account.limits_version)
        in_use = holdings.in_use(at.now_s)
        wanted = self._wanted(in_use, holdings.busiest)
        claim, recorded = claim_of(self._request(wanted, {}, message, at), state.now_ms), claim_of(lease, state.now_ms)
        place, known = standing(state, me, claim, c), standing(state, me, recorded, c)
        # Every instance that holds an extra slot must see the same one of them as the one to hand it over: each knows of the
        # others only how long their requests had waited at their last renew.
        agreed = standing(state, me, claim._replace(waited_ms=recorded.waited_ms), c)
        gives = min(place.held - min(place.due, agreed.due), max(0, place.owed - place.free))
        others = lacking(state, me)
        # What this instance lacks counts too: a renew would bring it nothing.
        scarce = place.owed > 0 or (place.free <= 0 and (wanted > place.held or any(others)))
        slots = SlotLimit(min(grant.cap, place.held - max(0, gives)), scarce, others)
        if slots.scarce and holdings.held > max(slots.cap, in_use):
            return Assessment(True, slots, looked)
        if in_use >= slots.cap and self._slots_bind(at):  # Else slots are not what is missing here.
            takes, looked = self._takes_slots(place, wanted, looked, at.now_s, slots.lacking.none)
            if takes or (place.due > place.held and place.due != known.due):
                return Assessment(True, slots, looked)
        if document.value == looked.tried and at.now_s < looked.tried_s + TRY_AGAIN_S:
            return Assessment(False, slots, looked)
        needs = self._lacking(slots.cap, at)
        looked = replace(looked, tried=document.value if needs or not slots.cap else b"", tried_s=at.now_s)
        return Assessment(bool(needs) and self._gains(document, needs, in_use, message, at), slots, looked)

    @staticmethod
    def _takes_slots(
        place: Standing, wanted: int, looked: Looked, now_s: float, none_held: int = 0
    ) -> tuple[bool, Looked]:
        """Whether slots are to be taken. Free ones are due first to the instances whose requests wait longest, unless these do
        not take them."""
        mine = place.due > place.held and place.before < place.free
        if mine or place.free < 1 or wanted <= place.held:
            return mine, replace(looked, unclaimed_since_s=0.0)
        since_s = looked.unclaimed_since_s or now_s
        unclaimed = now_s - since_s > budget.passed_over_s(PASSED_OVER_S, none_held)
        return unclaimed, replace(looked, unclaimed_since_s=since_s, unclaimed=unclaimed)

    def _lacking(self, cap: int, at: Instant) -> dict[str, tuple[Demand, int]]:
        """By section, for waiting requests without permits: what to request, and the minimum amount that is worth a renew."""
        lacking: dict[str, tuple[Demand, int]] = {}
        grant = self.holdings.grant
        if not cap or grant is None:
            return lacking
        for name, waiting in self.waiting.models.items():
            permits = self.holdings.view(name)
            stopped = permits.open_until_ms > 0
            if stopped and (permits.probing_ms or at.earliest_ms < permits.open_until_ms):
                continue
            if permits.last is not None and (stopped or not self._suffices(permits, waiting, cap, at)):
                share = permits.last.per_s * grant.horizon_ms / 1000
                have = permits.available(at.latest_ms).requests
                least = 1 if stopped else max(1, min(math.ceil(GAIN_SHARE * share), waiting.cost.requests - have))
                costs = waiting.costs(min(self._soon(cap, at), have + least))
                lacking[name] = (permits.demand(costs, 0, 0, at.latest_ms), least)
        return lacking

    def _gains(
        self, document: Document, lacking: dict[str, tuple[Demand, int]], in_use: int, message: Message, at: Instant
    ) -> bool:
        """Try a renew on the document that was read: whether it would grant permits that can be used about now.

        Permits further ahead are the instance's share of slots that were always there: they can wait for the next renew."""
        grid, demands = self.holdings.config.grid, {name: demand for name, (demand, _) in lacking.items()}
        request = self._request(self._wanted(in_use, in_use), demands, message, at)
        grant = renew_step(document.state, request, document.now_ms, grid)
        soon = grid.slot(document.now_ms) + IMMINENT_SLOTS
        # The ledger may place ids elsewhere whose names have not been reported yet.
        found = {name: one for name, one in grant.allotments.items() if name in demands}
        if any(one.probe_ms and one.probe_ms != self.holdings.view(name).probe_until_ms for name, one in found.items()):
            return True
        return any(
            sum(
                cost.requests - demands[name].kept.get(validity, NO_COST).requests
                for validity, cost in allotment.bookings.items()
                if validity.first <= soon
            )
            >= lacking[name][1]
            for name, allotment in found.items()
        )
