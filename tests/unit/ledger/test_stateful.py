"""I1-I6 on every transition, under any order of renews, dispatches, lost replies, deaths and returns."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.admission.bookings import PermitDraw
from shared.admission.model_permits import ModelPermits
from shared.generation import Cost
from shared.ledger.grid import JITTER_MS, Grid, pacific_day
from shared.ledger.limits import Limits
from shared.ledger.packing import pack, unpack
from shared.ledger.state import Kind, QuotaSignal, RenewRequest, RenewResult, State
from shared.ledger.step import renew
from tests.support.invariants import check_days, check_slots, check_windows, most_at_once, worst_weight

GRID = Grid.of(60)
MODELS = ("m", "n")
TAU_MS = 20_000
MIDNIGHT_MS = pacific_day(1_800_000_000_000).end_ms


@dataclass
class Instance:
    """One process: what it holds, and how wrong its idea of the store's time is."""

    name: str
    early_ms: int
    late_ms: int
    number: int = 0
    cap: int = 0
    authority_ms: int = 0
    books: dict[str, ModelPermits] = field(default_factory=dict)
    open: dict[int, float] = field(default_factory=dict)
    pending: RenewRequest | None = None
    refusals: list[QuotaSignal] = field(default_factory=list)


class LedgerMachine(RuleBasedStateMachine):
    """Three processes share one ledger; `self.arrivals` and `self.exchanges` are what Gemini would see."""

    @initialize(
        requests=st.integers(1, 12),
        tokens=st.sampled_from([None, 300, 1000]),
        per_day=st.sampled_from([None, 4, 30]),
        c=st.integers(1, 4),
        start=st.sampled_from([MIDNIGHT_MS - 30_000, MIDNIGHT_MS - 7 * 3_600_000]),
        errors=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=3, max_size=3),
    )
    def begin(self, requests, tokens, per_day, c, start, errors) -> None:
        self.limits = Limits(requests=requests, input_tokens=tokens, requests_per_day=per_day)
        self.c, self.now, self.blob = c, start, pack(State(GRID.window_ms))
        self.instances = [Instance(str(i), early, late) for i, (early, late) in enumerate(errors)]
        self.arrivals: list[tuple[str, float, Cost]] = []
        self.exchanges: list[list[float]] = []
        self.late = dict.fromkeys(MODELS, 0)
        """By model, requests reported when the ledger had forgotten their bookings, which it had counted in their day then: too
        many are counted, never too few."""
        self.trying: dict[str, tuple[str, float, int]] = {}
        """By model: who tries whether a cool-down is over, since when, and until when nobody else may."""

    def lo(self, i: Instance) -> int:
        return self.now - i.early_ms

    def hi(self, i: Instance) -> int:
        return self.now + i.late_ms

    @rule(
        ms=st.one_of(
            st.integers(1, 300), st.sampled_from([1_000, 5_000, 11_000, 21_000, 31_000, 60_000, 600_000, 900_000])
        )
    )
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @rule(
        at=st.integers(0, 2),
        waiting=st.lists(st.tuples(st.sampled_from(MODELS), st.integers(1, 200)), max_size=6),
        spare=st.integers(0, 5),
        mood=st.fixed_dictionaries(
            {"spare_slots": st.integers(0, 3), "unclaimed": st.booleans(), "callers": st.integers(1, 4)}
        ),
        waited_ms=st.integers(1, 9_000),
        fate=st.sampled_from(["delivered", "delivered", "delivered", "lost", "never applied"]),
    )
    def renews(
        self, at: int, waiting: list[tuple[str, int]], spare: int, mood: dict[str, int], waited_ms: int, fate: str
    ) -> None:
        i = self.instances[at]
        message = i.pending
        if message is None:
            message = i.pending = replace(self._message(i, waiting, spare, waited_ms), **mood)
            i.refusals.clear()
        i.cap = min(i.cap, message.hold)
        if fate == "never applied":
            return
        state = unpack(self.blob)
        before = copy.deepcopy(state)
        grant = renew(state, message, self.now, GRID)
        again = copy.deepcopy(before)
        assert renew(again, message, self.now, GRID) == grant and pack(again) == pack(state), "I6: not deterministic"
        repeated = copy.deepcopy(state)
        assert not renew(repeated, message, self.now + 1, GRID).fresh and repeated == state, "I6: not idempotent"
        assert state.now_ms >= before.now_ms, "I4: time went back"
        self._check_grant(grant, message)
        if grant.fresh:
            self._count_late(message, GRID.slot(state.now_ms) - GRID.span)
        self.blob = pack(state)
        assert unpack(self.blob) == state, "packing changed the state"
        if fate == "delivered":
            self._adopt(i, grant, message)

    def _count_late(self, message: RenewRequest, oldest: int) -> None:
        for model, demand in message.demands.items():
            self.late[model] += sum(cost.requests for slot, cost in demand.settled.items() if slot <= oldest)

    def _message(self, i: Instance, waiting: list[tuple[str, int]], spare: int, waited_ms: int) -> RenewRequest:
        demands = {}
        i.open = {n: sent for n, sent in i.open.items() if self.now < sent + TAU_MS}
        wanted = len(i.open) + len(waiting)
        for model in {*i.books, *(m for m, _ in waiting)}:
            book = i.books.setdefault(model, ModelPermits(GRID, self.limits, self.limits))
            costs = [Cost(1, min(tokens, self.limits.input_tokens or tokens)) for m, tokens in waiting if m == model]
            book.trim((len(costs) + spare) if wanted else 0)
            book.expire(self.hi(i))
            demands[model] = book.demand(costs, spare if wanted else 0, 30_000, self.hi(i))
            book.reported()
        return RenewRequest(
            i.name, i.number + 1, self.lo(i), self.c, TAU_MS,
            lease_ms=10_000, hold=max(len(i.open), min(i.cap, wanted)), want_slots=wanted,
            oldest_ms=self.now - waited_ms if waiting else 0,
            demands=demands,
            refusals=tuple(i.refusals),
        )  # fmt: skip

    def _check_grant(self, grant: RenewResult, message: RenewRequest) -> None:
        assert grant.cap <= max(message.want_slots + message.spare_slots, 0), "I5: more slots than wanted"
        for model, demand in message.demands.items():
            kept = sum(cost.requests for cost in demand.kept.values())
            got = sum(cost.requests for cost in grant.allotments[model].bookings.values())
            assert got <= kept + sum(n for _, n in demand.wants) + demand.spare, "I5: more permits than wanted"

    def _adopt(self, i: Instance, grant: RenewResult, message: RenewRequest) -> None:
        i.pending, i.number, i.cap, i.authority_ms = None, message.number, grant.cap, grant.authority_ms
        for model, allotment in grant.allotments.items():
            i.books[model].adopt(allotment, message.demands[model].kept, self.lo(i))
        for refusal in i.refusals:
            for model, book in i.books.items():
                if model == refusal.model or refusal.kind == "spend":
                    book.open_circuit(refusal.reason)

    @rule(at=st.integers(0, 2), model=st.sampled_from(MODELS), tokens=st.integers(1, 200), count=st.integers(1, 12))
    def asks_and_dispatches_what_it_gets(self, at: int, model: str, tokens: int, count: int) -> None:
        self.renews(at, [(model, tokens)] * count, 0, {}, 1, "delivered")
        for jitter in range(count):
            self._dispatch(self.instances[at], model, tokens, JITTER_MS * (jitter % 2))

    @rule(
        at=st.integers(0, 2),
        model=st.sampled_from(MODELS),
        tokens=st.integers(1, 200),
        jitter=st.integers(0, JITTER_MS),
    )
    def dispatches(self, at: int, model: str, tokens: int, jitter: int) -> None:
        self._dispatch(self.instances[at], model, tokens, jitter)

    def _dispatch(self, i: Instance, model: str, tokens: int, jitter: int) -> None:
        book = i.books.get(model)
        i.open = {n: sent for n, sent in i.open.items() if self.now < sent + TAU_MS}
        if book is None or len(i.open) >= i.cap or self.hi(i) > i.authority_ms:
            return
        cost = Cost(1, min(tokens, self.limits.input_tokens or tokens))
        draw: PermitDraw | None = book.draw(cost, self.lo(i), self.hi(i))
        if draw is None:
            return
        if book.open_until_ms:
            self._tries(i, model, book.probing_ms)
        book.dispatch(draw, cost, GRID.slot(self.hi(i)))
        self.arrivals.append((model, self.now + jitter, cost))
        self.exchanges.append([self.now, self.now + TAU_MS])
        i.open[len(self.exchanges) - 1] = self.now

    def _tries(self, i: Instance, model: str, until_ms: float) -> None:
        """After a cool-down one instance tries at a time, while its lease lasts."""
        name, right_ms, authority_ms = self.trying.get(model, (i.name, 0.0, 0))
        free_ms = min(right_ms, authority_ms)
        assert name == i.name or self.now >= free_ms, f"{i.name} tries while {name} does"
        self.trying[model] = (i.name, until_ms, i.authority_ms)

    @rule(at=st.integers(0, 2), model=st.sampled_from(MODELS), seconds=st.integers(0, 20), tokens=st.booleans())
    def gemini_refuses(self, at: int, model: str, seconds: int, tokens: bool) -> None:
        i = self.instances[at]
        if model in i.books and i.pending is None:
            minute = (0, 1) if tokens else (0,)
            i.refusals.append(QuotaSignal(model, self.hi(i) + 1 + 1000 * seconds, minute=minute, sent_ms=self.lo(i)))
            i.books[model].open_circuit(i.refusals[-1].reason)
            self.trying.pop(model, None)

    @rule(
        at=st.integers(0, 2),
        model=st.sampled_from(MODELS),
        kind=st.sampled_from(["rate", "zero", "spend"]),
        requests=st.sampled_from([None, 1, 3]),
        tokens=st.sampled_from([None, 50, 200]),
        seconds=st.integers(0, 2),
    )
    def gemini_stops_or_slows(
        self, at: int, model: str, kind: Kind, requests: int | None, tokens: int | None, seconds: int
    ) -> None:
        """Limits that are tested again must never lead beyond what is configured."""
        i = self.instances[at]
        if model in i.books and i.pending is None:
            learned = Limits(requests, tokens) if kind == "rate" else Limits()
            until_ms = self.hi(i) + 1 + 1000 * seconds
            refusal = QuotaSignal(
                model, until_ms, learned, minute=(), sent_ms=self.lo(i), guessed=True, kind=kind, message="No.\n"
            )
            i.refusals.append(refusal)
            for name, book in i.books.items():
                if name == model or kind == "spend":
                    book.open_circuit(refusal.reason)
                    self.trying.pop(name, None)

    @rule(at=st.integers(0, 2), seconds=st.integers(0, 3), others=st.lists(st.integers(0, 2), max_size=3))
    def gemini_refuses_and_all_try_afterwards(self, at: int, seconds: int, others: list[int]) -> None:
        self.gemini_refuses(at, MODELS[0], seconds, False)
        for one in (at, *others):
            self.renews(one, [(MODELS[0], 1)], 0, {}, 1, "delivered")
        for wait_ms in (1000 * seconds + 500, 300):
            self.now += wait_ms
            for one in (*others, at):
                self._dispatch(self.instances[one], MODELS[0], 1, 0)

    @rule(at=st.integers(0, 2), model=st.sampled_from(MODELS), answered=st.booleans())
    def the_request_that_tries_is_over(self, at: int, model: str, answered: bool) -> None:
        book = self.instances[at].books.get(model)
        if book is not None and book.probing_ms:
            book.end_probe(book.probing_ms, answered=answered)
            self.trying.pop(model, None)

    @rule(at=st.integers(0, 2), refund=st.integers(0, 50))
    def an_exchange_ends(self, at: int, refund: int) -> None:
        i = self.instances[at]
        if i.open:
            exchange, _ = i.open.popitem()
            self.exchanges[exchange][1] = min(self.now, self.exchanges[exchange][1])

    @rule(at=st.integers(0, 2))
    def takes_a_permit_and_gives_it_back(self, at: int) -> None:
        for book in self.instances[at].books.values():
            draw = book.draw(Cost(1, 1), self.lo(self.instances[at]), self.hi(self.instances[at]))
            if draw:
                book.put_back(draw)

    @precondition(lambda self: any(i.open for i in self.instances))
    @rule(at=st.integers(0, 2))
    def dies_and_is_replaced(self, at: int) -> None:
        old = self.instances[at]
        self.instances[at] = replace(
            old, name=f"{old.name}'", number=0, cap=0, authority_ms=0, books={}, open={}, pending=None, refusals=[]
        )

    @invariant()
    def the_ledger_is_within_every_limit(self) -> None:
        if not hasattr(self, "blob"):
            return
        state = unpack(self.blob)
        check_slots(state, self.c)
        for model in state.sections:
            check_windows(state, model, self.limits, GRID)
            per_day = self.limits.requests_per_day
            most = None if per_day is None else per_day + self.late[model]
            check_days(state, model, self.limits._replace(requests_per_day=most), GRID)

    def teardown(self) -> None:
        if not hasattr(self, "arrivals"):
            return
        for model in MODELS:
            mine = [(time, cost) for m, time, cost in self.arrivals if m == model]
            assert worst_weight([(t, c.requests) for t, c in mine], GRID.window_ms) <= (self.limits.requests or 0)
            if self.limits.input_tokens is not None:
                worst = worst_weight([(t, c.input_tokens) for t, c in mine], GRID.window_ms)
                assert worst <= self.limits.input_tokens
            if self.limits.requests_per_day is not None:
                for day in {pacific_day(t).ordinal for t, _ in mine}:
                    count = sum(1 for t, _ in mine if pacific_day(t).ordinal == day)
                    assert count <= self.limits.requests_per_day
        assert most_at_once((begin, end) for begin, end in self.exchanges) <= self.c


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
