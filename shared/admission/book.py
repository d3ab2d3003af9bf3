"""What one process holds of one model: bookings to spend, spending not yet reported, and what the ledger last said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.generation import NO_COST, Cost
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.limits import Limits, minimum
from shared.ledger.state import MAX_WANTS, Allotment, Bookings, Demand, Reason, Validity

RATE_MEMORY_S = 5.0


@dataclass(slots=True)
class Held:
    """One booking: what may still be drawn, and what was drawn but not yet dispatched."""

    available: Cost
    reserved: Cost = NO_COST


Draw = tuple[tuple[Validity, Cost], ...]
"""What one request took, by booking; the parts add up to its cost."""


@dataclass(slots=True)
class Book:
    """One model's permits in this process. `effective` are the limits that the ledger applies."""

    grid: Grid
    limits: Limits
    effective: Limits
    single: bool = False
    """Of unproven ids: one request of all instances is open at a time, always by the right to try (`probe_ms`)."""
    held: dict[Validity, Held] = field(default_factory=dict)
    settled: dict[int, Cost] = field(default_factory=dict)
    debt_tokens: int = 0
    """Used beyond what was reserved and not yet reported: `settled` alone does not tell it, once other corrections or the
    dispatch itself fall into the same slot."""
    void: dict[int, int] = field(default_factory=dict)
    """By slot, dispatches that found no such model, until the ledger is told."""
    last: Allotment | None = None
    blocked_ms: float = 0.0
    """Not 0: Gemini refuses this model until then (the store's time), and after it one request tries whether it still does."""
    reason: Reason | None = None
    """Why it does."""
    probe_ms: float = 0.0
    """Not 0: that request may be one of this process, and then it is dispatched before this time."""
    tried_ms: float = 0.0
    """The `probe_ms` of the one that is under way here; 0: none is."""
    answered_ms: float = 0.0
    """The `probe_ms` of one that was answered, until the ledger is told."""
    retry_s: float = 0.0
    """Not before then is it worth asking again for what was refused (elapsed time)."""
    told_s: float = 0.0
    """When the ledger last spoke of this model (elapsed time)."""
    day_end_ms: float = 0.0
    """The end of the Pacific day of which `last` speaks."""
    spare_retry_s: float = 0.0
    """Nor before then for spare ones."""
    arrivals: int = 0
    per_s: float = 0.0
    """Requests per second that came lately."""
    typical: Cost = Cost(1)
    since_s: float = 0.0

    def __post_init__(self) -> None:
        self.told(0, 0, None)

    @property
    def has_news(self) -> bool:
        """What the ledger must hear even if nothing is held."""
        return bool(self.answered_ms or self.void)

    def available(self, hi_ms: float) -> Cost:
        """What may still be drawn, now or later: bookings that are over do not count."""
        slot, total = self.grid.slot(hi_ms), NO_COST
        for validity, held in self.held.items():
            if validity[1] >= slot:
                total = total.plus(held.available)
        return total

    def day_is_spent(self, lo_ms: float) -> bool:
        return self.last is not None and self.last.day_spent and lo_ms < self.day_end_ms

    def came(self, cost: Cost, now_s: float) -> None:
        """Count an arrival: what a typical request costs, and how many come per second."""
        self.arrivals += 1
        self.typical = Cost(1, max(cost[1], (self.typical[1] * 7 + cost[1]) // 8), max(cost[2], self.typical[2]))
        if not self.since_s:
            self.since_s = now_s

    def measure(self, now_s: float) -> None:
        elapsed = now_s - self.since_s
        if elapsed > 0.1:
            weight = min(1.0, elapsed / RATE_MEMORY_S)
            self.per_s += weight * (self.arrivals / elapsed - self.per_s)
            self.arrivals, self.since_s = 0, now_s

    # -- spending ----------------------------------------------------------------------------------------------------

    def draw(self, cost: Cost, lo_ms: float, hi_ms: float) -> Draw | None:
        """Take `cost` from the bookings that are open now, the soonest to end first; None when they do not suffice, and
        before the ledger has told what limits hold."""
        slot_ms, metered = self.grid.slot_ms, self.effective.metered
        if self.last is None or self.shut(lo_ms, hi_ms):
            return None
        if not any(metered):
            self.tried_ms = self.probe_ms
            return ()
        left = cost
        parts: list[tuple[Validity, Cost]] = []
        for validity, held in self.held.items():
            if validity[0] * slot_ms <= lo_ms and hi_ms < (validity[1] + 1) * slot_ms:
                have = held.available
                part = Cost(min(left[0], have[0]), min(left[1], have[1]), min(left[2], have[2]))
                if any(part):
                    parts.append((validity, part))
                    left = left.minus(part)
                    if not any(left):
                        break
        if any(amount and required for amount, required in zip(left, metered, strict=True)):
            return None
        for validity, part in parts:
            held = self.held[validity]
            held.available, held.reserved = held.available.minus(part), held.reserved.plus(part)
        self.tried_ms = self.probe_ms
        return tuple(parts)

    @property
    def configured(self) -> Limits:
        """The smallest limits that any instance is configured with, as far as the ledger returned them."""
        return self.limits if self.last is None else self.last.configured

    @property
    def every_request_metered(self) -> bool:
        """Every request counts as one and has input; images are asked for by some."""
        return any(self.effective.metered[:2])

    def any_open(self, lo_ms: float, hi_ms: float) -> bool:
        if self.last is None or self.shut(lo_ms, hi_ms):
            return False
        if not self.every_request_metered:
            return True
        slot_ms = self.grid.slot_ms
        return any(
            any(held.available) and v[0] * slot_ms <= lo_ms and hi_ms < (v[1] + 1) * slot_ms
            for v, held in self.held.items()
        )

    def opens_ms(self, lo_ms: float) -> float | None:
        """When the next booking opens, or the model, that is not open yet (the store's time)."""
        if self.blocked_ms and not self.probe_ms:
            return None  # Somebody else is to try first.
        slot_ms = self.grid.slot_ms
        starts = [max(v.first * slot_ms, self.blocked_ms) for v, held in self.held.items() if any(held.available)]
        return min((at_ms for at_ms in [*starts, self.blocked_ms] if at_ms > lo_ms), default=None)

    def covered_ms(self, amounts: Sequence[float], lo_ms: float, hi_ms: float) -> float | None:
        """When bookings that cover `amounts` (by dimension) are open, the earliest ones first; None: what is held does not."""
        slot, metered = self.grid.slot(hi_ms), self.effective.metered
        have = NO_COST
        for validity in sorted(self.held):
            if validity[1] >= slot:
                have = have.plus(self.held[validity].available)
                if all(have[k] >= amounts[k] or not metered[k] for k in range(3)):
                    return max(lo_ms, validity[0] * self.grid.slot_ms)
        return None if any(metered) else lo_ms

    def may_write(self, draw: Draw, tried_ms: float, lo_ms: float, hi_ms: float) -> bool:
        """Whether what was drawn, under the right to try `tried_ms` if it is not 0, may be written at this moment."""
        if not self.may_go(tried_ms, hi_ms):
            return False
        slot_ms = self.grid.slot_ms
        return all(v[0] * slot_ms <= lo_ms and hi_ms < (v[1] + 1) * slot_ms and v in self.held for v, _ in draw)

    def spend(self, draw: Draw, cost: Cost, slot: int) -> None:
        """The request is being written: what it reserved becomes a dispatch in `slot`."""
        for validity, part in draw:
            held = self.held.get(validity)
            if held is not None:
                held.reserved = held.reserved.minus(part)
        self.correct(cost, slot)

    def correct(self, cost: Cost, slot: int) -> None:
        self.settled[slot] = self.settled.get(slot, NO_COST).plus(cost)

    def put_back(self, draw: Draw) -> None:
        """Nothing was written: what was reserved may be drawn again."""
        for validity, part in draw:
            held = self.held.get(validity)
            if held is not None:
                held.reserved, held.available = held.reserved.minus(part), held.available.plus(part)

    # -- after a refusal ---------------------------------------------------------------------------------------------

    def shut(self, lo_ms: float, hi_ms: float) -> bool:
        """Gemini refuses, or nobody knows yet whether it still does and it is not for this process to begin trying."""
        if not self.blocked_ms:
            return False
        under_way = self.tried_ms > 0 if self.single else self.tried_ms == self.probe_ms
        return lo_ms < self.blocked_ms or under_way or hi_ms >= self.probe_ms

    def may_go(self, tried_ms: float, hi_ms: float) -> bool:
        """Whether a request that was drawn under the right to try `tried_ms` (0: without one) may be written now."""
        return not self.blocked_ms or (tried_ms > 0 and tried_ms == self.tried_ms and hi_ms < tried_ms)

    def refused(self, reason: Reason) -> None:
        """Gemini refused, and the ledger has not taken it yet."""
        if reason.until_ms >= self.blocked_ms or self.reason is None:
            self.blocked_ms, self.reason = max(self.blocked_ms, float(reason.until_ms)), reason
        self.probe_ms = self.tried_ms = 0.0
        for held in self.held.values():
            held.available = NO_COST

    def tried(self, tried_ms: float, *, answered: bool) -> None:
        """The request that tried is over. Unless it was answered, another one may try in its place."""
        if answered:
            self.answered_ms = tried_ms
        if tried_ms == self.tried_ms:
            self.tried_ms = 0.0
            if answered:
                self.probe_ms = 0.0

    def told(self, open_until_ms: int, probe_ms: int, reason: Reason | None) -> None:
        """What the ledger has of this model's circuits."""
        self.blocked_ms, self.probe_ms = max(float(open_until_ms), float(self.single)), float(probe_ms)
        self.reason = reason
        if not self.blocked_ms:
            self.tried_ms = 0.0

    # -- talking to the ledger ---------------------------------------------------------------------------------------

    def expire(self, hi_ms: float) -> None:
        """Let go of what is over, and of remainders that no request can begin with."""
        slot, metered = self.grid.slot(hi_ms), self.effective.metered
        main = metered.index(True) if any(metered) else 0
        for validity in [v for v, held in self.held.items() if v[1] < slot or not held.available[main]]:
            if validity[1] >= slot and any(self.held[validity].reserved):
                self.held[validity].available = NO_COST
            else:
                del self.held[validity]

    def trim(self, requests: int) -> None:
        """Give up what is beyond `requests`, the latest first: somebody else may need it."""
        if not requests:
            for held in self.held.values():
                held.available = NO_COST
        surplus = sum(held.available[0] for held in self.held.values()) - requests
        for validity in sorted(self.held, reverse=True):
            if surplus <= 0:
                return
            held = self.held[validity]
            give = min(surplus, held.available[0])
            surplus -= give
            left = held.available[0] - give
            share = left / held.available[0] if held.available[0] else 0
            held.available = Cost(left, int(held.available[1] * share), int(held.available[2] * share))

    def demand(self, waiting: list[Cost], spare: int, reach_ms: int, hi_ms: float) -> Demand:
        """The report for the next renew. `waiting`: every request that could be dispatched soon, in serving order."""
        left = list(self.available(hi_ms))
        metered = self.effective.metered
        runs: list[tuple[Cost, int]] = []
        head = bool(waiting) and not self.serves(waiting[0], hi_ms)
        for at, cost in enumerate(waiting):
            if (at or not head) and covers(Cost(*left), cost, metered):
                left = [left[k] - cost[k] for k in range(3)]
            elif runs and (runs[-1][0] == cost or len(runs) >= MAX_WANTS):
                mean, count = runs[-1]
                runs[-1] = (Cost(*(-(-(mean[k] * count + cost[k]) // (count + 1)) for k in range(3))), count + 1)
            else:
                runs.append((cost, 1))
        kept: Bookings = {v: h.available.plus(h.reserved) for v, h in self.held.items()}
        return Demand(
            limits=self.limits,
            settled=dict(self.settled),
            debt_tokens=self.debt_tokens,
            void=dict(self.void),
            kept=kept,
            wants=tuple(runs),
            head=head,
            reach_ms=reach_ms,
            spare=max(0, spare - left[0]),
            typical=self.typical,
            waiting=bool(waiting),
            probing=self.tried_ms > 0,
            answered_ms=int(self.answered_ms),
        )

    def absorb(self, moved: Book) -> None:
        """`moved` is part of this one from now on: an answer named both as one model. Its permits were booked beside those of
        this model, so that both together may be more than the limit: those that nothing was drawn from are given back."""
        for validity, theirs in moved.held.items():
            mine = self.held.get(validity, _NOTHING)
            self.held[validity] = Held(mine.available, mine.reserved.plus(theirs.reserved))
        for slot, cost in moved.settled.items():
            self.correct(cost, slot)
        for slot, count in moved.void.items():
            self.void[slot] = self.void.get(slot, 0) + count
        self.debt_tokens += moved.debt_tokens
        if self.last is None:
            self.last, self.effective, self.day_end_ms = moved.last, moved.effective, moved.day_end_ms
        elif moved.last is not None:
            self.effective = minimum([self.effective, moved.effective])
        if moved.blocked_ms > self.blocked_ms:
            self.blocked_ms, self.probe_ms, self.tried_ms = moved.blocked_ms, moved.probe_ms, moved.tried_ms
            self.reason = moved.reason
        self.answered_ms = max(self.answered_ms, moved.answered_ms)
        self.arrivals, self.per_s = self.arrivals + moved.arrivals, self.per_s + moved.per_s
        self.typical = Cost(*map(max, self.typical, moved.typical))
        self.since_s = self.since_s or moved.since_s

    def serves(self, cost: Cost, hi_ms: float) -> bool:
        """Whether what is held can serve `cost` at one moment: one booking alone, or those that are open now together."""
        slot, metered = self.grid.slot(hi_ms), self.effective.metered
        together = NO_COST
        for validity, held in self.held.items():
            if validity[1] >= slot:
                if covers(held.available, cost, metered):
                    return True
                if validity[0] <= slot:
                    together = together.plus(held.available)
        return covers(together, cost, metered)

    def adopt(self, allotment: Allotment, kept: Bookings, lo_ms: float) -> None:
        """Replace what is held by what the ledger granted, less what was spent since `kept` was reported.

        A booking of which the ledger holds less than that is dropped: its reservations fail their last check."""
        held: dict[Validity, Held] = {}
        for validity in sorted(allotment.bookings, key=lambda v: v[1]):
            mine = self.held.get(validity, _NOTHING)
            spent = kept.get(validity, NO_COST).minus(mine.available.plus(mine.reserved))
            left = allotment.bookings[validity].minus(spent).minus(mine.reserved)
            if min(left) >= 0:
                held[validity] = Held(left, mine.reserved)
        self.held, self.last, self.effective = held, allotment, allotment.limits
        self.told(allotment.open_until_ms, allotment.probe_ms, allotment.stop)
        self.day_end_ms = pacific_day(lo_ms).end_ms


def covers(have: Cost, cost: Cost, metered: tuple[bool, bool, bool]) -> bool:
    return all(have[k] >= cost[k] or not metered[k] for k in range(3))


_NOTHING = Held(NO_COST)
