"""Every verdict has a history that fails it, and one nearby that does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.generation import Cost
from shared.ledger.grid import pacific_day
from shared.ledger.limits import Limits
from tests.simulation.checker import NO_GOALS, Goals, check, jain
from tests.simulation.history import Bound, Call, Disturbance, Exchange, History, Refused, Saturation
from tests.simulation.verdict import Verdict

NOON_MS = pacific_day(1_800_000_000_000).start_ms + 12 * 3_600_000.0
WINDOW_MS = 60_000.0
TWO = Limits(requests=2)
WINDOWS, DAYS, INSTANTS = "requests in any window", "requests in any day", "exchanges at once"


def exchange(at_ms: float, length_ms: float = 100.0, travel_ms: float = 0.0, **more: Any) -> Exchange:
    written = NOON_MS + at_ms
    fields: dict[str, Any] = {"cost": Cost(1, 10), "used_tokens": 10, "instance": "i", "caller": "c", **more}
    return Exchange(
        "p", "m", written_ms=written, arrived_ms=written + travel_ms, ended_ms=written + length_ms, **fields
    )


def call(number: int, came_ms: float, ended_ms: float, **more: object) -> Call:
    fields = {
        "deadline_ms": NOON_MS + came_ms + 10_000, "fate": "answered", "caller": "c", "instance": "i",
        "projects": ("p",), "batch": False, "cost": Cost(1), **more,
    }  # fmt: skip
    return Call(number, model="m", came_ms=NOON_MS + came_ms, ended_ms=NOON_MS + ended_ms, **fields)  # type: ignore[arg-type]


def history(*exchanges: Exchange, limits: Limits = TWO, c: int = 10, **more: object) -> History:
    return History(WINDOW_MS, exchanges, bounds=(Bound("p", "m", limits, c),), **more)  # type: ignore[arg-type]


def verdict(history: History, promise: str, goals: Goals = NO_GOALS) -> Verdict:
    [found] = [v for v in check(history, goals) if v.promise.startswith(promise)]
    return found


def test_window_may_begin_anywhere() -> None:
    over = verdict(history(exchange(0), exchange(30_000), exchange(59_999)), WINDOWS)
    assert (over.ok, over.worst, over.limit) == (False, 3, 2)
    assert verdict(history(exchange(0), exchange(30_000), exchange(60_000)), WINDOWS).ok


def test_requests_count_at_their_arrival() -> None:
    assert not verdict(history(exchange(0, travel_ms=200), exchange(150), exchange(60_100)), WINDOWS).ok


def test_slow_body_is_debt() -> None:
    assert verdict(history(exchange(0, travel_ms=251), exchange(1), exchange(2)), WINDOWS).ok


def test_models_and_projects_have_separate_windows() -> None:
    others = (replace(exchange(1), model="n"), replace(exchange(2), project="q"))
    assert verdict(history(exchange(0), exchange(3), *others), WINDOWS).ok


def test_lowered_limit_holds_from_its_bound_on() -> None:
    full = history(exchange(0), exchange(1), exchange(2))
    old = Bound("p", "m", Limits(requests=3), 10, until_ms=NOON_MS + 1)
    assert verdict(replace(full, bounds=(old, Bound("p", "m", Limits(requests=2), 10))), WINDOWS).ok
    earlier = replace(old, until_ms=NOON_MS - WINDOW_MS)
    assert not verdict(replace(full, bounds=(earlier, Bound("p", "m", Limits(requests=2), 10))), WINDOWS).ok


def test_tokens_above_the_reservation_are_debt() -> None:
    limits = Limits(input_tokens=100)
    fits = exchange(0, cost=Cost(1, 60), used_tokens=90), exchange(1, cost=Cost(1, 40), used_tokens=90)
    assert verdict(history(*fits, limits=limits), "tokens").ok
    assert not verdict(history(*fits, exchange(2, cost=Cost(1, 1), used_tokens=1), limits=limits), "tokens").ok


def test_counted_tokens_exclude_booked_debt() -> None:
    limits = Limits(input_tokens=100)

    def counted(used: int, settled: int | None, reserved: int = 50) -> Exchange:
        return exchange(0, cost=Cost(1, reserved), used_tokens=used, settled_tokens=settled)

    beside = counted(60, 60, reserved=60)
    assert verdict(history(counted(40, None), beside, limits=limits), "counted tokens").ok
    assert verdict(history(counted(90, 90, reserved=40), beside, limits=limits), "counted tokens").ok
    assert verdict(history(counted(90, None, reserved=40), beside, limits=limits), "counted tokens").ok
    assert not verdict(history(counted(41, None), beside, limits=limits), "counted tokens").ok
    dropped = verdict(history(counted(90, 40, reserved=40), beside, limits=limits), "counted tokens")
    assert (dropped.ok, dropped.worst, dropped.limit) == (False, 150, 100)


def test_images_have_a_limit_too() -> None:
    twice = exchange(0, cost=Cost(1, 1, 2)), exchange(1, cost=Cost(1, 1, 2))
    assert verdict(history(*twice, limits=Limits(images=4)), "images").ok
    assert not verdict(history(*twice, limits=Limits(images=3)), "images").ok


def test_a_day_is_a_pacific_one() -> None:
    midnight = pacific_day(NOON_MS).end_ms - NOON_MS
    limits = Limits(requests_per_day=1)
    assert verdict(history(exchange(midnight - 1), exchange(midnight), limits=limits), DAYS).ok
    assert not verdict(history(exchange(0), exchange(midnight - 1), limits=limits), DAYS).ok


def test_concurrency_counts_all_models_of_a_project() -> None:
    """From the first byte of an exchange to its end."""
    other = replace(exchange(99), model="n")
    assert not verdict(history(exchange(0), other, c=1), INSTANTS).ok
    assert verdict(
        history(exchange(0), replace(other, written_ms=NOON_MS + 100, arrived_ms=NOON_MS + 100), c=1), INSTANTS
    ).ok


@pytest.mark.parametrize(
    ("answers", "others", "ok"), [(2, 3, True), (3, 3, False), (2, 2, False), (0, 0, False)],
    ids=["unknown model", "known model", "too little known of another", "nothing known"],
)  # fmt: skip
def test_left_exchange_of_an_unknown_model_counts_until_left(answers: int, others: int, ok: bool) -> None:
    """Where another model stands for an unknown one, how long the exchange takes is a guess (A4b)."""
    before = [exchange(-10_000 + 200 * at) for at in range(answers)]
    before += [replace(exchange(-5_000 + 200 * at), model="n") for at in range(others)]
    left = exchange(0, 500, left_ms=NOON_MS + 50, status=0)
    assert verdict(history(*before, left, exchange(100), c=1, limits=Limits()), INSTANTS).ok is ok
    assert not verdict(history(*before, left, exchange(49), c=1, limits=Limits()), INSTANTS).ok


def test_a_process_knows_models_from_all_its_projects() -> None:
    before = [replace(exchange(-5_000 + 200 * at), project="q", model="n") for at in range(3)]
    left = exchange(0, 500, left_ms=NOON_MS + 50, status=0)
    assert verdict(history(*before, left, exchange(100), c=1, limits=Limits()), INSTANTS).ok
    known = [replace(one, model="m") for one in before]
    assert not verdict(history(*known, left, exchange(100), c=1, limits=Limits()), INSTANTS).ok


def test_refused_instance_writes_nothing_until_its_end() -> None:
    refused = (Refused("p", "m", "i", NOON_MS + 10, NOON_MS + 1_000),)
    assert verdict(history(exchange(10), exchange(1_000), refused=refused), "written").ok
    assert verdict(history(exchange(500, instance="j"), refused=refused), "written").ok
    assert not verdict(history(exchange(999), refused=refused), "written").ok


def test_answer_deadline_excludes_frozen_time() -> None:
    late = history(calls=(call(1, 0, 15_000),))
    assert not verdict(late, "heard").ok
    assert verdict(history(calls=(call(1, 0, 14_400),)), "heard").ok
    stop = Disturbance("freeze", NOON_MS + 1_000, NOON_MS + 4_000, "i")
    assert verdict(replace(late, disturbances=(stop,)), "heard").ok
    assert not verdict(replace(late, disturbances=(replace(stop, instance="j"),)), "heard").ok


def test_caller_of_a_killed_instance_needs_no_answer() -> None:
    assert verdict(history(calls=(call(1, 0, 99_000, fate="lost"),)), "heard").ok


def period(**more: object) -> Saturation:
    return Saturation("p", "m", NOON_MS, NOON_MS + 2 * WINDOW_MS, **more)  # type: ignore[arg-type]


def test_capacity_that_a_saturated_limit_left_unused_is_lost() -> None:
    used = [exchange(at * 30_000.0) for at in range(4)]
    goals = Goals(used_share=0.9)
    full, half = (history(*some, saturations=(period(),)) for some in (used, used[:2]))
    assert verdict(full, "share", goals).worst == 1.0
    assert verdict(full, "share", goals).ok
    assert not verdict(half, "share", goals).ok
    assert verdict(history(*used[:2], saturations=(period(best_use=0.5),)), "share", goals).ok


def test_binding_limit_defines_the_used_share() -> None:
    used = (exchange(0, used_tokens=100, cost=Cost(1, 100)), exchange(61_000, used_tokens=100, cost=Cost(1, 100)))
    limits = Limits(requests=50, input_tokens=100)
    assert verdict(history(*used, limits=limits, saturations=(period(),)), "share", Goals(used_share=0.9)).ok


@pytest.mark.parametrize("of", ["instance", "caller"])
def test_parties_that_all_want_more_get_the_same(of: str) -> None:
    claim = period(**{f"{of}s": ("a", "b")})
    uneven = [exchange(at * 10.0, 100.0, 0.0, **{of: "b" if at % 4 == 0 else "a"}) for at in range(40)]
    even = [exchange(at * 10.0, 100.0, 0.0, **{of: "ab"[at % 2]}) for at in range(40)]
    goals = Goals(jain=0.95)
    assert not verdict(history(*uneven, saturations=(claim,)), f"Jain's index over {of}s", goals).ok
    assert verdict(history(*even, saturations=(claim,)), f"Jain's index over {of}s", goals).ok


@pytest.mark.parametrize(("counts", "ok"), [((5, 0), True), ((6, 0), False), ((8, 1), True), ((9, 1), False)], ids=str)
def test_with_few_permits_counts_may_differ(counts: tuple[int, int], ok: bool) -> None:
    """By five, and by seven where everybody was served."""
    claim = period(callers=("a", "b"))
    callers = "a" * counts[0] + "b" * counts[1]
    uneven = [exchange(at * 10.0, caller=caller) for at, caller in enumerate(callers)]
    found = verdict(history(*uneven, saturations=(claim,)), "Jain's index over callers", Goals(jain=0.95))
    assert found.ok is ok


def test_jains_index_ranges_from_one_over_n_to_one() -> None:
    assert jain([3, 3, 3]) == pytest.approx(1.0)
    assert jain([3, 0, 0]) == pytest.approx(1 / 3)


def test_waits_are_held_against_one_queue_that_serves_in_order() -> None:
    """Limit 2: of four that come together the last two wait for a window."""

    def served(*at_ms: float) -> History:
        calls = tuple(call(n, 0, at + 1, served_ms=NOON_MS + at) for n, at in enumerate(at_ms))
        return history(calls=calls, saturations=(period(),))

    goals = Goals(wait_ratio=1.5)
    assert verdict(served(0, 0, 60_000, 60_000), "p99 wait", goals).worst == pytest.approx(1.0)
    assert not verdict(served(0, 0, 60_000, 120_000), "p99 wait", goals).ok


def test_inaccurate_retry_after_is_a_share_of_the_returns() -> None:
    """One caller is served when it returns, the other one 10 s later."""
    rejected = [
        call(n, 0, 1_000, caller=c, fate="refused", code="queue_timeout", retry_after_s=30.0)
        for n, c in ((1, "a"), (2, "b"))
    ]
    returned = [
        call(n, 31_000, 42_000, caller=c, served_ms=NOON_MS + at) for n, c, at in ((3, "a", 31_000), (4, "b", 41_000))
    ]
    met = history(calls=(*rejected, *returned), saturations=(period(),))
    assert verdict(met, "inaccurate Retry-After", Goals(inaccurate_retry_after=0.4)).worst == pytest.approx(0.5)
    assert not verdict(met, "inaccurate Retry-After", Goals(inaccurate_retry_after=0.4)).ok
    assert verdict(met, "inaccurate Retry-After", Goals(inaccurate_retry_after=0.5)).ok


def test_the_worst_place_is_named() -> None:
    found = verdict(history(exchange(0), exchange(5), exchange(7)), WINDOWS)
    assert found.where == f"p/m, the window that ends at {NOON_MS + 7:.3f}"
    assert str(found) == f"FAIL requests in any window: 3 (limit 2) {found.where}"
