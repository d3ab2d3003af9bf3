"""One model's permits in one process: bookings to spend, spending not yet reported, and the ledger's last grant. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.admission.bookings import NOTHING, Booking, PermitDraw, covers
from shared.generation import DIMENSIONS, NO_COST, Cost
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.limits import Limits, minimum
from shared.ledger.state import MAX_WANTS, Bookings, Demand, ModelGrant, Reason, SlotRange

RATE_MEMORY_S, LONG_MEMORY_S = 5.0, 20.0
"""Over how long arrivals are averaged: where they become more frequent, and where they become less so."""


@dataclass(slots=True)
class ModelPermits:
    """The permits of one section of the ledger. `effective` are the limits that the ledger applies.

    This process's view of the model's circuit breaker (the state machine is drawn in `ledger/circuit.py`):

        closed      `open_until_ms` is 0
        open        the store's time is before `open_until_ms`: nothing is dispatched
        half-open   after it: only the instance with `probe_until_ms` may dispatch, and only one request, the probe, which is
                    under way here while `probing_ms` is set
    """

    grid: Grid
    limits: Limits
    effective: Limits
    single: bool = False
    """Whether this is the section of unproven ids: all instances together have one request open at a time, always a probe."""
    bookings: dict[SlotRange, Booking] = field(default_factory=dict)
    settled: dict[int, Cost] = field(default_factory=dict)
    """Dispatches and corrections that the ledger has not been sent yet, by slot."""
    debt_tokens: int = 0
    """Tokens used beyond their reservations, not yet reported. `settled` alone does not show them once other corrections or the
    dispatch itself fall into the same slot."""
    not_found: dict[int, int] = field(default_factory=dict)
    """Dispatches that Gemini answered with 404 for this model, not yet reported, by slot."""
    last: ModelGrant | None = None
    """The ledger's last grant; None until the first one."""
    open_until_ms: float = 0.0
    """When the circuit becomes half-open (store time); 0 while it is closed."""
    reason: Reason | None = None
    """Why the circuit is open."""
    probe_until_ms: float = 0.0
    """Until when this process may dispatch the probe; 0 if it may not."""
    probing_ms: float = 0.0
    """The `probe_until_ms` of the probe that is under way here; 0 if none is."""
    answered_probe_ms: float = 0.0
    """The `probe_until_ms` of an answered probe that the ledger has not been sent yet; 0 if none."""
    batches_until_ms: float = 0.0
    """Until when no batch of embeddings is dispatched, because Gemini rejected one (store time)."""
    retry_s: float = 0.0
    """Earliest time to ask again for permits that were not granted (elapsed time)."""
    spare_retry_s: float = 0.0
    """Earliest time to ask again for spare permits (elapsed time)."""
    updated_s: float = 0.0
    """When the ledger last returned a grant for this model (elapsed time)."""
    day_end_ms: float = 0.0
    """The end of the Pacific day that `last` was granted in."""
    arrivals: int = 0
    """Requests that arrived since `since_s`."""
    per_s: float = 0.0
    """Requests that recently arrived per second."""
    typical: Cost = Cost(1)
    """The cost of a typical recent request."""
    since_s: float = 0.0

    def __post_init__(self) -> None:
        self.set_circuit(0, 0, None)

    @property
    def scarce(self) -> bool:
        """Whether permits were paced at the last renew: this instance gets a share of them, booked ahead."""
        return self.last is not None and self.last.per_s > 0

    @property
    def has_news(self) -> bool:
        """Whether the ledger must be sent something even if no booking is held."""
        return bool(self.answered_probe_ms or self.not_found)

    def available(self, latest_ms: float) -> Cost:
        """What may still be drawn, now or later; expired bookings do not count."""
        slot, total = self.grid.slot(latest_ms), NO_COST
        for validity, booking in self.bookings.items():
            if validity[1] >= slot:
                total = total.plus(booking.available)
        return total

    def day_is_spent(self, earliest_ms: float) -> bool:
        return self.last is not None and self.last.day_spent and earliest_ms < self.day_end_ms

    def record_arrival(self, cost: Cost, now_s: float) -> None:
        """Learn from an arriving request what a typical one costs and how many arrive per second. Batches of embeddings are left
        out: they are as different as their lists, and their quota is so small that each may cost a renew."""
        if cost.batches:
            return
        self.arrivals += 1
        self.typical = Cost(1, max(cost[1], (self.typical[1] * 7 + cost[1]) // 8), max(cost[2], self.typical[2]))
        if not self.since_s:
            self.since_s = now_s

    def measure(self, now_s: float) -> None:
        elapsed = now_s - self.since_s
        if elapsed > 0.1:
            per_s = self.arrivals / elapsed
            weight = min(1.0, elapsed / (RATE_MEMORY_S if per_s > self.per_s else LONG_MEMORY_S))
            self.per_s += weight * (per_s - self.per_s)
            self.arrivals, self.since_s = 0, now_s

    # -- spending ----------------------------------------------------------------------------------------------------

    def draw(self, cost: Cost, earliest_ms: float, latest_ms: float) -> PermitDraw | None:
        """Reserve `cost` from the bookings that are valid now, the soonest to expire first. None if they do not suffice, or if
        the ledger has not returned the model's limits yet."""
        slot_ms, metered = self.grid.slot_ms, self.effective.metered
        if self.last is None or self.is_stopped(earliest_ms, latest_ms):
            return None
        if cost.batches and earliest_ms < self.batches_until_ms:
            return None
        if not any(metered):
            self.probing_ms = self.probe_until_ms
            return ()
        left = cost
        parts: list[tuple[SlotRange, Cost]] = []
        for validity, booking in self.bookings.items():
            if validity[0] * slot_ms <= earliest_ms and latest_ms < (validity[1] + 1) * slot_ms:
                have = booking.available
                part = Cost(min(left[0], have[0]), min(left[1], have[1]), min(left[2], have[2]), min(left[3], have[3]))
                if any(part):
                    parts.append((validity, part))
                    left = left.minus(part)
                    if not any(left):
                        break
        if any(amount and required for amount, required in zip(left, metered, strict=True)):
            return None
        for validity, part in parts:
            booking = self.bookings[validity]
            booking.available, booking.reserved = booking.available.minus(part), booking.reserved.plus(part)
        self.probing_ms = self.probe_until_ms
        return tuple(parts)

    @property
    def configured(self) -> Limits:
        """The smallest limits that any instance is configured with, as far as the ledger returned them."""
        return self.limits if self.last is None else self.last.configured

    @property
    def every_request_metered(self) -> bool:
        """Every request counts as one and has input; only some make images."""
        return any(self.effective.metered[:2])

    def any_valid(self, earliest_ms: float, latest_ms: float) -> bool:
        """Whether a booking that is valid now has anything left to draw."""
        if self.last is None or self.is_stopped(earliest_ms, latest_ms):
            return False
        if not self.every_request_metered:
            return True
        slot_ms = self.grid.slot_ms
        return any(
            any(booking.available) and v[0] * slot_ms <= earliest_ms and latest_ms < (v[1] + 1) * slot_ms
            for v, booking in self.bookings.items()
        )

    def opens_ms(self, earliest_ms: float) -> float | None:
        """When the next booking becomes valid, or the circuit half-open (store time); None if neither is to come."""
        if self.open_until_ms and not self.probe_until_ms:
            return None  # Another instance sends the probe first.
        slot_ms = self.grid.slot_ms
        starts = [
            max(v.first * slot_ms, self.open_until_ms) for v, booking in self.bookings.items() if any(booking.available)
        ]
        return min((at_ms for at_ms in [*starts, self.open_until_ms] if at_ms > earliest_ms), default=None)

    def covered_ms(self, amounts: Sequence[float], earliest_ms: float, latest_ms: float) -> float | None:
        """When bookings that cover `amounts` (by dimension) are valid, the earliest ones first; None if they never are."""
        slot, metered = self.grid.slot(latest_ms), self.effective.metered
        have = NO_COST
        for validity in sorted(self.bookings):
            if validity[1] >= slot:
                have = have.plus(self.bookings[validity].available)
                if all(have[k] >= amounts[k] or not metered[k] for k in range(DIMENSIONS)):
                    return max(earliest_ms, validity[0] * self.grid.slot_ms)
        return None if any(metered) else earliest_ms

    def serves(self, cost: Cost, latest_ms: float) -> bool:
        """Whether the bookings can serve `cost` at one moment: one booking alone, or those that are valid now together."""
        slot, metered = self.grid.slot(latest_ms), self.effective.metered
        together = NO_COST
        for validity, booking in self.bookings.items():
            if validity[1] >= slot:
                if covers(booking.available, cost, metered):
                    return True
                if validity[0] <= slot:
                    together = together.plus(booking.available)
        return covers(together, cost, metered)

    def may_write(self, draw: PermitDraw, probe_ms: float, earliest_ms: float, latest_ms: float) -> bool:
        """Whether the request of `draw` may be written at this moment. `probe_ms`: its right to probe, 0 if it is no probe."""
        if self.open_until_ms and not (probe_ms > 0 and probe_ms == self.probing_ms and latest_ms < probe_ms):
            return False
        slot_ms = self.grid.slot_ms
        for v, part in draw:
            if part.batches and earliest_ms < self.batches_until_ms:
                return False
            if v[0] * slot_ms > earliest_ms or latest_ms >= (v[1] + 1) * slot_ms or v not in self.bookings:
                return False
        return True

    def dispatch(self, draw: PermitDraw, cost: Cost, slot: int) -> None:
        """Turn the reservation of a request that is being written into a dispatch in `slot`."""
        for validity, part in draw:
            booking = self.bookings.get(validity)
            if booking is not None:
                booking.reserved = booking.reserved.minus(part)
        self.correct(cost, slot)

    def correct(self, cost: Cost, slot: int) -> None:
        """Add `cost`, which may be negative, to what is reported for `slot`."""
        self.settled[slot] = self.settled.get(slot, NO_COST).plus(cost)

    def put_back(self, draw: PermitDraw) -> None:
        """Return the reservation of a request that was never written: it may be drawn again."""
        for validity, part in draw:
            booking = self.bookings.get(validity)
            if booking is not None:
                booking.reserved, booking.available = booking.reserved.minus(part), booking.available.plus(part)

    def count_not_found(self, requests: int, slot: int) -> None:
        self.not_found[slot] = self.not_found.get(slot, 0) + requests

    # -- the circuit -------------------------------------------------------------------------------------------------

    def is_stopped(self, earliest_ms: float, latest_ms: float) -> bool:
        """Whether the circuit lets no further request begin here: it is open, or half-open and the probe is under way or is
        another instance's."""
        if not self.open_until_ms:
            return False
        under_way = self.probing_ms > 0 if self.single else self.probing_ms == self.probe_until_ms
        return earliest_ms < self.open_until_ms or under_way or latest_ms >= self.probe_until_ms

    def open_circuit(self, reason: Reason) -> None:
        """Open the circuit for a refusal that was not reported to the ledger yet."""
        if reason.until_ms >= self.open_until_ms or self.reason is None:
            self.open_until_ms, self.reason = max(self.open_until_ms, float(reason.until_ms)), reason
        self.probe_until_ms = self.probing_ms = 0.0
        for booking in self.bookings.values():
            booking.available = NO_COST

    def stop_batches(self, until_ms: float) -> None:
        """Dispatch no batch of embeddings before `until_ms`. Those booked for earlier are given up."""
        self.batches_until_ms = until_ms
        for validity, booking in self.bookings.items():
            if validity.first * self.grid.slot_ms < until_ms:
                booking.available = booking.available._replace(batches=0)

    def end_probe(self, probe_ms: float, *, answered: bool) -> None:
        """End the probe that was sent under the right `probe_ms`. Unless it was answered, another one may be sent instead."""
        if answered:
            self.answered_probe_ms = probe_ms
        if probe_ms == self.probing_ms:
            self.probing_ms = 0.0
            if answered:
                self.probe_until_ms = 0.0

    def set_circuit(self, open_until_ms: int, probe_until_ms: int, reason: Reason | None) -> None:
        """Take over the circuit's state from the ledger. A right whose probe was answered is over, although the ledger returns it
        until it is sent the answer: another instance may have the next one by then."""
        self.open_until_ms = max(float(open_until_ms), float(self.single))
        self.probe_until_ms = 0.0 if probe_until_ms == self.answered_probe_ms else float(probe_until_ms)
        self.reason = reason
        if not self.open_until_ms:
            self.probing_ms = 0.0

    # -- exchanging with the ledger ----------------------------------------------------------------------------------

    def expire(self, latest_ms: float) -> None:
        """Drop expired bookings, and remainders that no request can begin with."""
        slot, metered = self.grid.slot(latest_ms), self.effective.metered
        main = metered.index(True) if any(metered) else 0
        for validity in [v for v, booking in self.bookings.items() if v[1] < slot or not booking.available[main]]:
            if validity[1] >= slot and any(self.bookings[validity].reserved):
                self.bookings[validity].available = NO_COST
            else:
                del self.bookings[validity]

    def trim(self, requests: int) -> None:
        """Give up permits beyond `requests`, the latest first: another instance may need them."""
        if not requests:
            for booking in self.bookings.values():
                booking.available = NO_COST
        surplus = sum(booking.available[0] for booking in self.bookings.values()) - requests
        for validity in sorted(self.bookings, reverse=True):
            if surplus <= 0:
                return
            booking = self.bookings[validity]
            give = min(surplus, booking.available[0])
            surplus -= give
            left = booking.available[0] - give
            share = left / booking.available[0] if booking.available[0] else 0
            booking.available = Cost(left, *(int(amount * share) for amount in booking.available[1:]))

    def demand(self, waiting: list[Cost], spare: int, reach_ms: int, latest_ms: float, spare_ms: int = 0) -> Demand:
        """The report for the next renew. `waiting`: every request that could be dispatched soon, in serving order."""
        left = list(self.available(latest_ms))
        metered = self.effective.metered
        runs: list[tuple[Cost, int]] = []
        head = bool(waiting) and not self.serves(waiting[0], latest_ms)
        for at, cost in enumerate(waiting):
            if (at or not head) and covers(Cost(*left), cost, metered):
                left = [left[k] - cost[k] for k in range(DIMENSIONS)]
            elif runs and (runs[-1][0] == cost or len(runs) >= MAX_WANTS):
                mean, count = runs[-1]
                runs[-1] = (
                    Cost(*(-(-(mean[k] * count + cost[k]) // (count + 1)) for k in range(DIMENSIONS))),
                    count + 1,
                )
            else:
                runs.append((cost, 1))
        kept: Bookings = {v: booking.available.plus(booking.reserved) for v, booking in self.bookings.items()}
        return Demand(
            limits=self.limits,
            settled=dict(self.settled),
            debt_tokens=self.debt_tokens,
            not_found=dict(self.not_found),
            kept=kept,
            wants=tuple(runs),
            head=head,
            reach_ms=reach_ms,
            spare=max(0, spare - left[0]),
            spare_ms=spare_ms,
            typical=self.typical,
            waiting=bool(waiting),
            probing=self.probing_ms > 0,
            answered_ms=int(self.answered_probe_ms),
        )

    def reported(self) -> None:
        """Forget what is now part of a renew, which is repeated until the ledger has applied it."""
        self.settled, self.not_found, self.debt_tokens, self.answered_probe_ms = {}, {}, 0, 0.0

    def absorb(self, moved: ModelPermits) -> None:
        """Merge the permits of a section that an answer named as the same model. Its bookings are returned: they were made beside
        those of this model, so that both together may exceed the limit. Requests that drew on them fail their last check."""
        for slot, cost in moved.settled.items():
            self.correct(cost, slot)
        for slot, count in moved.not_found.items():
            self.count_not_found(count, slot)
        self.debt_tokens += moved.debt_tokens
        if self.last is None:
            self.last, self.effective, self.day_end_ms = moved.last, moved.effective, moved.day_end_ms
        elif moved.last is not None:
            self.effective = minimum([self.effective, moved.effective])
        if moved.open_until_ms > self.open_until_ms:
            self.open_until_ms, self.reason = moved.open_until_ms, moved.reason
            self.probe_until_ms, self.probing_ms = moved.probe_until_ms, moved.probing_ms
        self.answered_probe_ms = max(self.answered_probe_ms, moved.answered_probe_ms)
        self.arrivals, self.per_s = self.arrivals + moved.arrivals, self.per_s + moved.per_s
        self.typical = Cost(*map(max, self.typical, moved.typical))
        self.since_s = self.since_s or moved.since_s

    def reconfigure(self, limits: Limits) -> None:
        """`limits` are configured from now on. Lower ones apply at once; higher ones, and what they allow to ask for, when the
        ledger has been sent them. What was booked under the old ones stays."""
        if limits != self.limits:
            self.limits, self.effective = limits, minimum([self.effective, limits])
            self.retry_s = self.spare_retry_s = 0.0

    def adopt(self, allotment: ModelGrant, kept: Bookings, earliest_ms: float, *, newer: bool = False) -> None:
        """Replace the bookings by those that the ledger granted, less what was spent since `kept` was reported.

        A booking of which the ledger holds less than that is dropped: its reservations fail their last check. A grant under
        larger limits than those configured here is returned: the ledger did not know of these. But if they are from a `newer`
        configuration than this process has read, they apply."""
        bookings: dict[SlotRange, Booking] = {}
        for validity in sorted(allotment.bookings, key=lambda v: v[1]):
            mine = self.bookings.get(validity, NOTHING)
            spent = kept.get(validity, NO_COST).minus(mine.available.plus(mine.reserved))
            left = allotment.bookings[validity].minus(spent).minus(mine.reserved)
            if min(left) >= 0:
                bookings[validity] = Booking(left, mine.reserved)
        self.bookings, self.last = bookings, allotment
        self.effective = allotment.limits if newer else minimum([allotment.limits, self.limits])
        if self.effective != allotment.limits:
            self.trim(0)
        self.set_circuit(allotment.open_until_ms, allotment.probe_ms, allotment.stop)
        self.day_end_ms = pacific_day(earliest_ms).end_ms
