"""One seed from beginning to verdict: run it, let it come to rest, send a last request, and check what the ledger still holds."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from shared.admission.budget import MAX_HOLD_S
from shared.admission.project import RETURN_TIMEOUT_S
from shared.generation import Caller, Cost
from shared.ledger.circuit import circuits_of
from shared.ledger.grid import JITTER_MS, pacific_day
from shared.ledger.names import section_of
from shared.ledger.state import State
from shared.ledger.step import MAX_LEASE_MS
from tests.simulation.caller import Request
from tests.simulation.checker import Goals, check
from tests.simulation.history import Call, History
from tests.simulation.loop import Livelock
from tests.simulation.scenario import Scenario
from tests.simulation.verdict import Verdict
from tests.simulation.world import LOCAL_LINGER_S, World

STILL_SHUT = "models that one request at a time must try although Gemini answered"
DEBT = "debts that are booked wrong"
PROBE_S = 30.0
"""An idle deployment answers within this time, however slow the scenario's network is."""
MAX_PROBE_PAUSE_S = 5.0

MAX_UNHINDERED_WRITERS = 6
"""Up to this many instances do not hinder each other's writes."""
QUIET = Goals(answer_slack_ms=1_000.0 * RETURN_TIMEOUT_S + 250.0, used_share=0.75, jain=0.85, wait_ratio=4.0)
"""The goals without faults and with fast messages. An answer may wait until what was held is returned. The goal for a
saturated limit is low: windows are short here, and a call to the store takes much of the time for which permits are booked."""


@dataclass(frozen=True, slots=True)
class Result:
    seed: int
    verdicts: tuple[Verdict, ...]
    history: History
    digest: str
    """A digest of everything that happened; the same for the same seed."""
    virtual_s: float
    wall_s: float
    commits: int
    conflicts: int

    @property
    def failures(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.ok]


def judge(scenario: Scenario, trace: Callable[[str], None] | None = None) -> Result:
    began_s = time.perf_counter()
    world = World(scenario, trace)
    verdicts: list[Verdict] = []
    with world.entered():
        world.begin()
        try:
            verdicts += _come_to_rest(world)
        except Livelock as spin:
            verdicts.append(Verdict("time goes on", ok=False, where=str(spin)))
        history = world.history()
    errors = [*world.errors, *world.loop.errors]
    verdicts += check(history, _goals(scenario))
    verdicts.append(Verdict("no error inside", ok=not errors, worst=len(errors), limit=0, where="; ".join(errors[:3])))
    server = world.server
    digest = hashlib.blake2b(repr((history, server.commits, server.reads)).encode(), digest_size=8).hexdigest()
    wall_s = time.perf_counter() - began_s
    return Result(
        scenario.seed, tuple(verdicts), history, digest, world.loop.now_s, wall_s, server.commits, server.conflicts
    )


def _goals(scenario: Scenario) -> Goals:
    if not _quiet(scenario):
        return Goals()
    if scenario.reconfigurations:
        # The ideal queue has one limit, and an instance that learns of another one late gets less meanwhile.
        return replace(QUIET, wait_ratio=None, jain=None)
    return QUIET


def _come_to_rest(world: World) -> Iterator[Verdict]:
    scenario, loop = world.scenario, world.loop
    loop.run_until(scenario.busy_s)
    patience_s = max((client.kind.patience_s[1] for client in scenario.clients), default=0.0)
    end_s = scenario.busy_s + patience_s + 5.0
    while loop.now_s < end_s and any(i.calls for i in world.instances if not i.process.killed):
        loop.run_until(loop.now_s + 0.5)
    open_calls = sum(len(i.calls) for i in world.instances if not i.process.killed)
    yield Verdict("calls that nobody answered", ok=not open_calls, worst=open_calls, limit=0)
    yield from _nothing_held(world, "when the last was answered", at_once=True)
    loop.run_until(loop.now_s + max(_ttl_s(world), _refused_for_s(world)))
    yield from _nothing_held(world, "after every lease")
    yield from _probe(world)
    yield from _nothing_held(world, "when the probe was answered", at_once=True)
    yield from _days_counted(world)
    yield from _debt_booked(world)


def _quiet(scenario: Scenario) -> bool:
    few = max(count for _, count in scenario.population) <= MAX_UNHINDERED_WRITERS
    return few and _fast(scenario) and not (scenario.faults or scenario.late or scenario.lost)


def _fast(scenario: Scenario) -> bool:
    """Whether messages are fast: otherwise a permit may expire before its instance receives it."""
    return scenario.delay_s[1] * 1000 <= scenario.grid.slot_ms


def _ttl_s(world: World) -> float:
    """The time after the last renew until every lease, booking and window has ended."""
    scenario = world.scenario
    longest_s = scenario.lease_s or MAX_LEASE_MS / 1000
    return longest_s + scenario.tau_s + scenario.queue_timeout_s + 2 * scenario.grid.window_ms / 1000 + 5.0


def _refused_for_s(world: World) -> float:
    states = world.ledgers().values()
    open_ms = [
        circuit.open_until_ms
        for state in states
        for circuit in (state.spend, *(section.circuit for section in state.sections.values()))
    ]
    return (max(open_ms, default=0.0) - world.now_ms()) / 1000


def _probe(world: World) -> Iterator[Verdict]:
    """After the faults stopped, one request for every model of every project is served."""
    last: dict[tuple[str, str], Call | None] = {}

    async def ask(name: str, model: str, one: Request) -> None:
        while world.loop.now_s < end_s:
            heard = last[name, model] = await world.ask(one)
            if heard.fate == "answered" or heard.code in ("daily_quota_exhausted", "model_not_found"):
                return
            # A process that thaws may find a call to the store that failed long ago; on a slow network a queue may be
            # shorter than a conversation with the store. Retry-After leaves time for callers that were rejected before and are
            # expected back, but here nobody comes back.
            await asyncio.sleep(min(heard.retry_after_s or 1.0, MAX_PROBE_PAUSE_S))

    deployment = world.scenario.deployments[-1]
    models = {client.kind.model for client in world.scenario.clients}
    # Unproven ids share one limit, which may be one request per window, and a rejected request leaves a window unused.
    patience_s = max(PROBE_S, 5 * len(models) * world.grid.window_ms / 1000)
    end_s = world.loop.now_s + patience_s
    for project, account in {world.gemini.project_of(account): account for account in deployment.accounts}.items():
        for model in sorted(models):
            one = Request([account], Caller("probe", "admin"), model, Cost(1, 1), 1, patience_s, 0.05)
            last[project, model] = None
            world.loop.create_task(ask(project, model, one))
    world.loop.run_until(end_s + 3.0)
    unserved = [
        f"{name}/{model} {heard and (heard.fate, heard.code)}"
        for (name, model), heard in last.items()
        if heard is None
        or (heard.fate != "answered" and heard.code not in ("daily_quota_exhausted", "model_not_found"))
    ]
    yield Verdict("served after all faults", ok=not unserved, worst=len(unserved), limit=0, where=", ".join(unserved))
    shut = [
        f"{project}/{model}"
        for (project, model), heard in last.items()
        if heard is not None
        and heard.fate == "answered"
        and _stops(world.ledgers()[project], model)
        and not _unsaid(world, project)
    ]
    yield Verdict(STILL_SHUT, ok=not shut, worst=len(shut), limit=0, where=", ".join(shut))


def _unsaid(world: World, project: str) -> bool:
    """Whether a process was stopped with its last answer before the ledger, on a slow network, received its report."""
    agents = [a for i in world.instances if not i.process.killed for a in i.admission.projects.values()]
    return any(agent.ledger.pending is not None for agent in agents if agent.ledger.ledger_id == project)


def _stops(state: State, model: str) -> bool:
    # An id has no section where its process was stopped with its last answer, before it could report what that named.
    return bool(circuits_of(state, state.sections.get(section_of(state.names, model))))


def _nothing_held(world: World, when: str, *, at_once: bool = False) -> Iterator[Verdict]:
    """`at_once`: without waiting for a lease to end, where no fault can have kept the instances from returning what they held."""
    scenario = world.scenario
    if at_once:
        leaves = any(client.kind.leaves for client in scenario.clients)
        cut_short = scenario.stops_when_idle and (leaves or scenario.holds_on)
        if cut_short or not _quiet(scenario):
            return
        lingers_s = 3 * LOCAL_LINGER_S * scenario.local + 3 * MAX_HOLD_S * scenario.holds_on
        lingers_s += scenario.tau_s * (not scenario.cancels)
        world.loop.run_until(world.loop.now_s + 1.0 + lingers_s)
    held = []
    now_ms = world.now_ms()
    # An instance that ended before its last request keeps that request's slot, which no process can return.
    cut_off = {call.instance for call in world.calls if call.fate == "lost"} if at_once else set()
    for project, state in world.ledgers().items():
        for name, lease in state.leases.items():
            if name in cut_off:
                continue
            bookings = [v for share in lease.shares.values() for v in share.bookings]
            slots = lease.slots if at_once or lease.reuse_ms >= now_ms else 0
            if lease.ends_ms:
                slots = sum(end_ms >= now_ms for end_ms in lease.ends_ms)
            booked = sum(at_once or world.grid.start_ms(v.last + world.grid.span) >= now_ms for v in bookings)
            if slots or booked:
                held.append(f"{project}: {name} has {slots} slots, {booked} bookings")
    yield Verdict(f"held while idle, {when}", ok=not held, worst=len(held), limit=0, where="; ".join(held[:3]))


def _days_counted(world: World) -> Iterator[Verdict]:
    """A day's count is never below what Gemini saw, even after kills, and not above it if all instances lived to report."""
    scenario, ledgers = world.scenario, world.ledgers()
    metered = dict(scenario.aliases)
    # Where a day is unlimited, an instance books nothing that would count there after a kill.
    unlimited = {
        (world.gemini.project_of(account), metered.get(model, model))
        for deployment in scenario.deployments
        for account in deployment.accounts
        for model in {client.kind.model for client in scenario.clients}
        if account.limits_for(model).requests_per_day is None
    }
    # A body that is written across a midnight is debt in the day in which it ends.
    # A request that was booked elsewhere may count there alone, if its answer was lost.
    counts = Counter(
        (e.project, e.model, day)
        for e in world.gemini.exchanges()
        if not e.booked
        if (day := pacific_day(e.arrived_ms).ordinal) == pacific_day(e.written_ms).ordinal
        or e.arrived_ms - e.written_ms <= JITTER_MS
    )
    booked_elsewhere = Counter((e.project, e.model) for e in world.gemini.exchanges() if e.booked)
    midnights = {pacific_day(scenario.began_ms + s * 1000).ordinal for s in (-1.0, world.loop.now_s + 1.0)}
    troubled = scenario.faults or scenario.lost or scenario.late or scenario.stops_when_idle
    # A lease longer than a window, which only windows as short as these allow, is renewed after its bookings are forgotten.
    brief = (scenario.lease_s or 10.0) * 1000 < scenario.grid.window_ms
    # On a slow network a report may lose its races for longer than a window as short as these.
    prompt = brief and _fast(scenario)
    reported = prompt and not troubled and len(scenario.population) == 1 and len(midnights) == 1
    wrong = []
    for (project, model, day), count in counts.items():
        if (project, model) not in unlimited:
            counted = _day(ledgers.get(project), model, day)
            most = count + booked_elsewhere[project, model]
            if counted < count or (reported and counted > most):
                wrong.append(f"{project}/{model} on {day}: {counted} of {count}")
    yield Verdict("days that are counted wrong", ok=not wrong, worst=len(wrong), limit=0, where="; ".join(wrong))


def _debt_booked(world: World) -> Iterator[Verdict]:
    """The ledger's debt is what Gemini counted beyond the reservations, if no fault can have prevented its report."""
    if not _quiet(world.scenario) or world.scenario.stops_when_idle or world.scenario.repeated:
        return
    owed: Counter[tuple[str, str]] = Counter()
    for exchange in world.gemini.exchanges():
        owed[exchange.project, exchange.model] += exchange.booked_debt_tokens
    wrong = []
    for project, state in world.ledgers().items():
        for model, section in state.sections.items():
            if section.debt_tokens != owed[project, model]:
                wrong.append(f"{project}/{model}: {section.debt_tokens} of {owed[project, model]}")
    yield Verdict(DEBT, ok=not wrong, worst=len(wrong), limit=0, where="; ".join(wrong))


def _day(state: State | None, model: str, day: int) -> int:
    """What is counted, plus the lapsed bookings that the next renew will count."""
    if state is None or model not in state.sections:
        return 0
    booked = sum(
        cost.requests
        for lease in state.leases.values()
        if model in lease.shares
        for cost in lease.shares[model].bookings.values()
    )
    return state.sections[model].days.get(day, 0) + booked
