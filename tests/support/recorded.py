"""The requests and responses of a fleet's callers and the record of its Gemini, as one history that the checker judges."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.generation import Cost
from shared.ledger.limits import Limits
from shared.ledger.state import State
from tests.simulation.history import Bound, Call, Disturbance, Exchange, Fate, History, Saturation
from tests.support.fleet import Fleet, Quota
from tests.support.load import NOT_ANSWERED, Load, Sent
from tests.support.processes import request
from tests.support.recording_gemini import Recorded

PROJECT = "project"
_EPOCH_S = time.time() - time.monotonic()
"""The Unix time at which CLOCK_MONOTONIC, which all records use, was 0."""


def ms(monotonic_s: float) -> float:
    return (monotonic_s + _EPOCH_S) * 1000


@dataclass(slots=True)
class Log:
    """The times of faults (CLOCK_MONOTONIC): (kind, instance or "", from, until)."""

    wrong: list[tuple[str, str, float, float]] = field(default_factory=list)

    @contextmanager
    def wrongly(self, kind: str, instance: str = "") -> Iterator[None]:
        from_s = time.monotonic()
        try:
            yield
        finally:
            self.wrong.append((kind, instance, from_s, time.monotonic()))

    def span_s(self, kind: str) -> tuple[float, float]:
        return next((from_s, until_s) for name, _, from_s, until_s in self.wrong if name == kind)


async def recorded(site: Fleet) -> list[Recorded]:
    _, _, rows = await request("GET", f"{site.gemini.url}/exchanges")
    return [Recorded(**row) for row in rows]


def mean_open(exchanges: Iterable[Recorded], from_s: float, until_s: float) -> float:
    """How many of the admitted requests Gemini worked on at once, on average. A busy machine, on which an answer takes longer,
    does not change it."""
    open_s = (
        min(until_s if one.ended_s is None else one.ended_s, until_s) - max(one.arrived_s, from_s)
        for one in exchanges
        if one.admitted
    )
    return sum(max(0.0, one_s) for one_s in open_s) / (until_s - from_s)


def instance_name(server: int) -> str:
    return f"i{server}"


def history_of(
    quota: Quota, load: Load, seen: Iterable[Recorded], log: Log, saturations: Sequence[Saturation]
) -> History:
    """The history. No record has the time of a write, so a request is taken to arrive at once, which is the stricter case."""
    numbers = {sent.prompt_id: number for number, sent in enumerate(load.sent)}
    exchanges = [
        _exchange(one, load.sent[numbers[one.prompt_id]], numbers[one.prompt_id])
        for one in seen
        if one.prompt_id in numbers
    ]
    first_ms: dict[int, float] = {}
    for exchange in sorted(exchanges, key=lambda e: e.arrived_ms):
        first_ms.setdefault(exchange.call, exchange.arrived_ms)
    patience_s = load.behaviour.patience_s
    assert patience_s is not None, "whoever is to be judged by its deadline has one"
    limits = Limits(requests=quota.requests, input_tokens=quota.tokens, requests_per_day=quota.requests_per_day)
    return History(
        window_ms=quota.window_s * 1000,
        exchanges=tuple(exchanges),
        calls=tuple(_call(n, one, patience_s, first_ms.get(n)) for n, one in enumerate(load.sent)),
        bounds=tuple(Bound(PROJECT, model, limits, quota.concurrency) for model in load.models),
        disturbances=tuple(Disturbance(kind, ms(a), ms(b), who) for kind, who, a, b in log.wrong),
        saturations=tuple(saturations),
    )


def _exchange(one: Recorded, sent: Sent, number: int) -> Exchange:
    return Exchange(
        project=PROJECT,
        model=one.model,
        instance=instance_name(sent.server),
        caller=f"caller-{sent.caller}",
        cost=Cost(1, one.reserved_tokens),
        written_ms=ms(one.arrived_s),
        arrived_ms=ms(one.arrived_s),
        ended_ms=ms(one.ended_s) if one.ended_s is not None else math.inf,
        used_tokens=one.used_tokens,
        status=int(one.outcome) if one.outcome.isdecimal() else 0,
        call=number,
    )


def _call(number: int, sent: Sent, patience_s: float, served_ms: float | None) -> Call:
    fate: Fate = "answered" if sent.answered else "refused"
    if sent.left:
        fate = "left"
    elif sent.status == NOT_ANSWERED:
        fate = "lost"
    return Call(
        number=number,
        instance=instance_name(sent.server),
        caller=f"caller-{sent.caller}",
        model=sent.model,
        projects=(PROJECT,),
        cost=Cost(1),
        batch=False,
        came_ms=ms(sent.start_s),
        deadline_ms=ms(sent.start_s + patience_s),
        ended_ms=ms(sent.end_s),
        fate=fate,
        code=sent.told,
        retry_after_s=sent.retry_after_s,
        served_ms=served_ms,
    )


def still_held(state: State, quota: Quota, now_ms: float) -> list[str]:
    """What the ledger still keeps for an instance: slots that no other one could get, and bookings that still count."""
    found = []
    for name, lease in state.leases.items():
        slots = lease.slots if lease.reuse_ms >= now_ms else 0
        bookings = [validity for share in lease.shares.values() for validity in share.bookings]
        counting = sum(quota.grid.start_ms(v.last + quota.grid.span) >= now_ms for v in bookings)
        if slots or counting:
            found.append(f"{name} has {slots} slots, {counting} bookings")
    return found
