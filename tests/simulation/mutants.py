"""Deliberate defects: the simulation must notice each of them, or it proves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from shared.admission import ledger_document
from shared.admission import names as admission_names
from shared.admission.admission import Admission
from shared.admission.bookings import Booking
from shared.admission.holdings import Holdings
from shared.admission.model_permits import ModelPermits
from shared.admission.permit import Permit
from shared.admission.policy import Policy
from shared.admission.project import ProjectClient
from shared.admission.server_clock import Instant, ServerClock
from shared.generation import NO_COST
from shared.ledger import batches, calendar, step
from shared.ledger import names as ledger_names
from shared.ledger.calendar import Calendar
from shared.ledger.state import UNPROVEN
from shared.ledger.throttling import jitter_slots
from shared.stores.port import CommitUnknown
from tests.simulation.checker import COUNTED_TOKENS
from tests.simulation.judge import DEBT, STILL_SHUT
from tests.simulation.mutant import Mutant, patched
from tests.simulation.mutants_of_batches import BATCHES_OF_EMBEDDINGS
from tests.simulation.mutants_of_circuits import CIRCUITS
from tests.simulation.mutants_of_deadlines import DEADLINES
from tests.simulation.mutants_of_projects import PROJECTS
from tests.simulation.scenario import Scenario
from tests.simulation.shapes import (
    aliases,
    an_alias_in_demand,
    callers_who_leave,
    processes_that_die,
    processes_that_stand_still,
    processes_that_stop_with_their_last_answer,
    refusals,
    repeated_messages,
    scarce_days,
    scarce_images,
    scarce_requests,
    scarce_slots,
    scarce_tokens,
    slow_connections,
    uncertain_tokens,
    unproven_ids,
)

# -- the ledger ------------------------------------------------------------------------------------------------------


@contextmanager
def span_short_by(slots: int, scenario: Scenario) -> Iterator[Scenario]:
    yield replace(scenario, grid=scenario.grid._replace(span=scenario.grid.span - slots))


def ring_counts_from_its_slot_on(scenario: Scenario) -> Any:
    """A dispatch counts only from its own slot on (d <= t), which misses one that was settled ahead of its true time."""
    right = Calendar._free_of

    def wrong(self: Calendar, k: int) -> list[int]:
        free = right(self, k)
        for slot, cost in self.ring.items():
            for at in range(min(slot - self.now, len(free))):
                free[at] += cost[k]
        return free

    return patched(scenario, (Calendar, "_free_of", wrong))


def slots_granted_as_wanted(scenario: Scenario) -> Any:
    return patched(scenario, (step, "share_slots", lambda state, renew, *_: renew.want_slots))


def tau_not_waited_for(scenario: Scenario) -> Any:
    def wrong(lease: Any, message: Any) -> None:
        lease.reuse_ms = lease.authority_ms

    # An instance that checks what the lease covers would dispatch nothing.
    return patched(scenario, (step, "_cover", wrong), (Holdings, "covers", lambda self, ends_s, at: True))


def nothing_on_hold(scenario: Scenario) -> Any:
    """What a renew gives up, and what is open, is granted to others at once, although its sender still uses it."""
    right = step._hold_slots
    wrong = lambda state, lease, message, c: right(state, lease, replace(message, hold=0), c)  # noqa: E731 - a defect in one line reads like a diff
    return patched(scenario, (step, "_hold_slots", wrong))


def settled_dropped(scenario: Scenario) -> Any:
    right = step._settle

    def wrong(state: Any, lease: Any, message: Any, grid: Any) -> None:
        demands = {m: replace(d, settled={}) for m, d in message.demands.items()}
        right(state, lease, replace(message, demands=demands), grid)

    return patched(scenario, (step, "_settle", wrong))


def applied_twice(scenario: Scenario) -> Any:
    """A repeated renew, whose first reply was lost, is applied as a new one."""
    right = ledger_document.renew_step

    def wrong(state: Any, message: Any, store_ms: int, grid: Any) -> Any:
        lease = state.leases.get(message.instance)
        if lease is not None and lease.renew >= message.number:
            lease.renew = message.number - 1
        return right(state, message, store_ms, grid)

    return patched(scenario, (ledger_document, "renew_step", wrong))


def one_day_at_midnight(scenario: Scenario) -> Any:
    right = calendar.touched_days
    early = lambda grid, first, last: right(grid, first, last)[:1]  # noqa: E731 - a defect in one line reads like a diff
    return patched(scenario, (calendar, "touched_days", early))


def lapsed_bookings_leave_no_trace(scenario: Scenario) -> Any:
    right = step._prune

    def wrong(state: Any, instance: str, grid: Any) -> None:
        now = grid.slot(state.now_ms)
        for lease in state.leases.values():
            for share in lease.shares.values():
                share.bookings = {v: c for v, c in share.bookings.items() if v.last + grid.span > now}
        right(state, instance, grid)

    return patched(scenario, (step, "_prune", wrong))


def dead_bookings_end_with_their_slots(scenario: Scenario) -> Any:
    """A dead instance's bookings are forgotten when they can no longer be dispatched, not a window later."""
    right = step._prune

    def wrong(state: Any, instance: str, grid: Any) -> None:
        now = grid.slot(state.now_ms)
        for name, lease in state.leases.items():
            if name != instance:
                for share in lease.shares.values():
                    share.bookings = {v: c for v, c in share.bookings.items() if v.last >= now}
        right(state, instance, grid)

    return patched(scenario, (step, "_prune", wrong))


def without_limit(dimension: str, scenario: Scenario) -> Any:
    right = batches.tested_limits

    def wrong(*given: Any) -> Any:
        limits = right(*given)
        # Still metered, so that permits are booked, and granted as within the limit: an instance returns other grants.
        return limits if getattr(limits, dimension) is None else limits._replace(**{dimension: 1 << 30})

    return patched(scenario, (batches, "tested_limits", wrong))


# -- the instance ----------------------------------------------------------------------------------------------------


def cap_ignored(scenario: Scenario) -> Any:
    right = Holdings.draw

    def wrong(self: Holdings, section: str, cost: Any, at: Any) -> Any:
        cap, self.cap = self.cap, 1 << 30
        try:
            return right(self, section, cost, at)
        finally:
            self.cap = cap

    return patched(scenario, (Holdings, "draw", wrong))


def slot_of_a_leaver_freed(scenario: Scenario) -> Any:
    return patched(scenario, (Permit, "_runs_on_s", lambda self: 0.0))


def slots_of_leavers_returned(scenario: Scenario) -> Any:
    """A cancelled exchange keeps its slot only while the process has something else to do."""
    return patched(scenario, (step, "_keep_cancelled", _returned))


def _returned(lease: Any, message: Any, held: int, now_ms: int) -> None:
    lease.slots, lease.authority_ms, lease.reuse_ms = 0, now_ms, now_ms


def slots_of_leavers_kept(scenario: Scenario) -> Any:
    return patched(scenario, (step, "_keep_cancelled", _kept))


def _kept(lease: Any, message: Any, held: int, now_ms: int) -> None:
    lease.slots, lease.authority_ms, lease.reuse_ms = held, now_ms, now_ms + 600_000


def last_check_skipped(scenario: Scenario) -> Any:
    return patched(scenario, (Holdings, "may_write", lambda self, section, draw, probe_ms, at: True))


def authority_ignored(scenario: Scenario) -> Any:
    """A process that was frozen continues where it stopped, even if its slots were granted to others."""
    right = Holdings.adopt

    def wrong(self: Holdings, *result: Any) -> bool:
        renamed = right(self, *result)
        self.authority_ms = float("inf")
        return renamed

    # What the lease covers ends the deadlines of a frozen process too: either check suffices.
    return patched(scenario, (Holdings, "adopt", wrong), (Holdings, "covers", lambda self, ends_s, at: True))


def unknown_commit_forgotten(scenario: Scenario) -> Any:
    right = ProjectClient._renew

    async def wrong(self: ProjectClient, *, looked: bool) -> None:
        try:
            await right(self, looked=looked)
        except CommitUnknown:
            self.ledger.pending = None
            raise
        except KeyError:  # The reply to a forgotten renew grants a model that the new one does not name.
            raise CommitUnknown("the reply does not fit the request") from None

    return patched(scenario, (ProjectClient, "_renew", wrong))


def clock_bounds_exchanged(scenario: Scenario) -> Any:
    """The earliest and the latest store time are exchanged."""
    low, high = ServerClock.earliest_ms, ServerClock.latest_ms
    both, instant = ServerClock.bounds_ms, ServerClock.instant

    def turned(self: ServerClock) -> Instant:
        right = instant(self)
        return right._replace(earliest_ms=right.latest_ms, latest_ms=right.earliest_ms)

    return patched(
        scenario,
        (ServerClock, "earliest_ms", high),
        (ServerClock, "latest_ms", low),
        (ServerClock, "bounds_ms", lambda self: both(self)[::-1]),
        (ServerClock, "instant", turned),
    )


def refusal_kept_to_itself(scenario: Scenario) -> Any:
    return patched(scenario, (ProjectClient, "refuse", lambda self, refusal: None))


def answer_opens_nothing(scenario: Scenario) -> Any:
    """The answer to a probe is not reported."""
    return patched(scenario, (Permit, "answered", lambda self: None))


def unknown_settled_as_zero(scenario: Scenario) -> Any:
    """A reservation without Gemini's count is returned, as if Gemini had counted nothing."""
    right = Permit.close

    async def wrong(self: Permit, input_tokens: int | None = None, *, cancelled: bool = False) -> None:
        await right(self, input_tokens or 0, cancelled=cancelled)

    return patched(scenario, (Permit, "close", wrong))


def debt_forgotten(scenario: Scenario) -> Any:
    """What Gemini counted beyond the reservation is not booked."""
    right = Permit.close

    async def wrong(self: Permit, input_tokens: int | None = None, *, cancelled: bool = False) -> None:
        counted = None if input_tokens is None else min(input_tokens, self.cost.input_tokens)
        await right(self, counted, cancelled=cancelled)

    return patched(scenario, (Permit, "close", wrong))


def lapsed_permits_spent(scenario: Scenario) -> Any:
    """Permits that were spent while a renew was under way are granted again by its result."""
    right = ModelPermits.adopt

    def wrong(self: ModelPermits, allotment: Any, kept: Any, earliest_ms: float, **more: Any) -> None:
        for booking in self.bookings.values():
            booking.reserved = NO_COST
        right(self, allotment, {}, earliest_ms, **more)

    return patched(scenario, (ModelPermits, "adopt", wrong))


def permits_of_an_alias_are_kept(scenario: Scenario) -> Any:
    """Permits that were booked for an alias are spent as permits of its target."""
    right = ModelPermits.absorb

    def wrong(self: ModelPermits, moved: ModelPermits) -> None:
        right(self, moved)
        for validity, booking in moved.bookings.items():
            mine = self.bookings.setdefault(validity, Booking(NO_COST))
            mine.available = mine.available.plus(booking.available)

    return patched(scenario, (ModelPermits, "absorb", wrong))


def aliases_keep_their_sections(scenario: Scenario) -> Any:
    """An id that is known to be metered as another model keeps its own section."""
    itself = lambda names, model: model  # noqa: E731 - a defect in one line reads like a diff
    return patched(scenario, (ledger_names, "section_of", itself), (admission_names, "section_of", itself))


def everyone_has_the_turn(scenario: Scenario) -> Any:
    """Each instance sends an unproven request of its own."""

    def wrong(state: Any, message: Any, turn_ms: int) -> bool:
        turn = state.sections[UNPROVEN].circuit
        turn.owner, turn.model, turn.probe_ms = message.instance, UNPROVEN, state.now_ms + turn_ms
        return bool(message.demands[UNPROVEN].waiting)

    return patched(scenario, (step, "takes_turn", wrong))


def turns_end_with_their_right(scenario: Scenario) -> Any:
    """The turn of an unproven request ends with its right to begin, although the request is still open."""
    right = step.takes_turn

    def wrong(state: Any, message: Any, turn_ms: int) -> bool:
        turn = state.sections[UNPROVEN].circuit
        if turn.owner and turn.owner != message.instance:
            turn.owner = ""
        return right(state, message, turn_ms)

    return patched(scenario, (step, "takes_turn", wrong))


def policy_spends(scenario: Scenario) -> Any:
    """The policy, which only returns what to do, also writes what may be spent: all slots are used at once."""
    right = Policy.next_action

    def wrong(self: Policy, at: Any, *, pending: bool) -> Any:
        if self.holdings.cap:
            self.holdings.cap = self.holdings.account.concurrency
        return right(self, at, pending=pending)

    return patched(scenario, (Policy, "next_action", wrong))


def nobody_wakes(scenario: Scenario) -> Any:
    return patched(scenario, (Admission, "_expire", lambda self, waiter: None))


def nothing_given_back(scenario: Scenario) -> Any:
    async def wrong(self: ProjectClient, *, late: bool = False) -> None:
        return None

    return patched(scenario, (ProjectClient, "give_back", wrong))


SCRIPTED = (Mutant("the ring counts from its slot on", ring_counts_from_its_slot_on),)
"""Defects that seeds show too rarely: a named regression shows them."""
REQUESTS, TOKENS, IMAGES = "requests in any window", "tokens in any window", "images in any window"
ELSEWHERE, UNPROVEN_ONES = "booked elsewhere than metered, though it was known", "unproven requests at once"
HELD = "held while idle, after every lease"
SLOTS, DAY, COUNTED = "exchanges at once", "requests in any day", "days that are counted wrong"

MUTANTS = (
    Mutant(
        "a span too short by the jitter's slots", lambda s: span_short_by(jitter_slots(s.grid), s),
        shape=scarce_requests, promise=REQUESTS,
    ),
    Mutant("a span one slot too short", lambda s: span_short_by(1, s), 5_000, scarce_requests, REQUESTS),
    Mutant("slots are granted as wanted", slots_granted_as_wanted, shape=scarce_slots, promise=SLOTS),
    Mutant("tau is not waited for", tau_not_waited_for, shape=processes_that_stand_still, promise=SLOTS),
    Mutant("nothing is on hold", nothing_on_hold, shape=scarce_slots, promise=SLOTS),
    Mutant("what was settled is dropped", settled_dropped, shape=scarce_tokens, promise=TOKENS),
    Mutant("a repeated renew is applied twice", applied_twice, shape=repeated_messages, promise=COUNTED),
    Mutant("at midnight one day is counted", one_day_at_midnight),
    Mutant("lapsed bookings leave no trace in their day", lapsed_bookings_leave_no_trace),
    Mutant(
        "a dead instance's bookings end with their slots", dead_bookings_end_with_their_slots,
        shape=processes_that_die, promise=REQUESTS,
    ),
    Mutant("tokens do not bind", lambda s: without_limit("input_tokens", s), shape=scarce_tokens, promise=TOKENS),
    Mutant(
        "what was not counted is settled as 0", unknown_settled_as_zero, shape=uncertain_tokens, promise=COUNTED_TOKENS
    ),
    Mutant("what is counted beyond the reservation is not booked", debt_forgotten, shape=uncertain_tokens, promise=DEBT),
    Mutant("images do not bind", lambda s: without_limit("images", s), shape=scarce_images, promise=IMAGES),
    Mutant("days do not bind", lambda s: without_limit("requests_per_day", s), shape=scarce_days, promise=DAY),
    Mutant("a cancelled exchange frees its slot", slot_of_a_leaver_freed, shape=callers_who_leave, promise=SLOTS),
    Mutant("an idle instance frees such slots", slots_of_leavers_returned, shape=callers_who_leave, promise=SLOTS),
    Mutant("such slots are never free", slots_of_leavers_kept, shape=callers_who_leave, promise=HELD),
    Mutant("the cap is ignored", cap_ignored, shape=scarce_slots, promise=SLOTS),
    Mutant("the last check is skipped", last_check_skipped, shape=slow_connections, promise=REQUESTS),
    Mutant("authority is ignored after a freeze", authority_ignored, shape=scarce_slots, promise=SLOTS),
    Mutant("an unknown commit is forgotten", unknown_commit_forgotten),
    Mutant("the clock's bounds are exchanged", clock_bounds_exchanged),
    Mutant(
        "a refusal is kept from the ledger", refusal_kept_to_itself, shape=refusals, promise="written while refused"
    ),
    Mutant("an answer opens nothing", answer_opens_nothing, shape=refusals, promise=STILL_SHUT),
    Mutant("what was spent meanwhile is given again", lapsed_permits_spent, shape=scarce_requests, promise=REQUESTS),
    Mutant("an alias's permits are kept", permits_of_an_alias_are_kept, shape=an_alias_in_demand, promise=REQUESTS),
    Mutant("an alias keeps its section", aliases_keep_their_sections, shape=aliases, promise=ELSEWHERE),
    Mutant("everyone has the turn", everyone_has_the_turn, shape=unproven_ids, promise=UNPROVEN_ONES),
    Mutant("a turn ends too soon", turns_end_with_their_right, shape=unproven_ids, promise=UNPROVEN_ONES),
    Mutant("the policy writes the cap", policy_spends, shape=scarce_slots, promise=SLOTS),
    Mutant("a deadline wakes nobody", nobody_wakes, shape=scarce_images, promise="calls that nobody answered"),
    Mutant(
        "nothing is given back", nothing_given_back,
        shape=processes_that_stop_with_their_last_answer, promise="held while idle, when the last was answered",
    ),
    *BATCHES_OF_EMBEDDINGS,
    *CIRCUITS,
    *DEADLINES,
    *PROJECTS,
)  # fmt: skip
