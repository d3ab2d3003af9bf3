"""What every store promises (shared/stores/port.py), proved alike on memory, SQLite and Firestore."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from shared.clock import elapsed_s
from shared.stores.port import MAX_VALUE_BYTES, Change, CommitUnknown, Put, Store, StoreUnavailable, TimeSample
from tests.contract.conftest import Backing, put

Values = Mapping[str, bytes | None]


def count_up(key: str) -> Callable[[Values, int], Change[int]]:
    def step(values: Values, _now_ms: int) -> Change[int]:
        count = int(values[key] or b"0") + 1
        return Change(count, {key: Put(b"%d" % count)})

    return step


async def value_of(store: Store, key: str) -> bytes | None:
    return (await store.read(key)).value


# -- reading and writing ----------------------------------------------------------------------------------------------


async def test_what_was_never_written_is_absent(store: Store) -> None:
    seen: list[Values] = []
    outcome = await store.transact(["things/a"], lambda values, _now: Change(seen.append(dict(values))))
    assert seen == [{"things/a": None}]
    assert await value_of(store, "things/a") is None
    assert (outcome.reads, outcome.writes, outcome.conflicts) == (1, 0, 0)


async def test_an_entry_is_made_changed_and_deleted(store: Store, backing: Backing) -> None:
    other = backing.client()
    for value in (b"one", b"two", b"", None, b"again"):
        outcome = await store.transact(
            ["things/a"], lambda _values, _now, v=value: Change("done", {"things/a": None if v is None else Put(v)})
        )
        assert outcome.result == "done"
        assert (outcome.reads, outcome.writes, outcome.conflicts) == (1, 1, 0)
        assert await value_of(other, "things/a") == value


async def test_deleting_what_is_absent_changes_nothing(store: Store) -> None:
    await put(store, "things/a", None)
    assert await value_of(store, "things/a") is None


@pytest.mark.parametrize("size", [1, 2_000, MAX_VALUE_BYTES])
async def test_a_value_is_any_bytes_up_to_the_limit(store: Store, size: int) -> None:
    value = bytes(range(256)) * (size // 256 + 1)
    await put(store, "things/a", value[:size])
    assert await value_of(store, "things/a") == value[:size]


async def test_several_keys_are_read_and_changed_together(store: Store) -> None:
    await put(store, "things/a", b"1")
    await put(store, "others/b", b"2")
    keys = ["things/a", "others/b", "things/absent", "things/untouched"]
    seen: list[Values] = []

    def step(values: Values, _now: int) -> Change[str]:
        seen.append(dict(values))
        return Change("x", {"things/a": Put(b"new"), "others/b": None, "things/absent": Put(b"made")})

    await store.transact(keys, step)
    assert seen == [{"things/a": b"1", "others/b": b"2", "things/absent": None, "things/untouched": None}]
    assert [await value_of(store, key) for key in keys] == [b"new", None, b"made", None]


async def test_a_key_named_twice_is_one_key(store: Store) -> None:
    assert (await store.transact(["n/a", "n/a"], count_up("n/a"))).result == 1
    assert await value_of(store, "n/a") == b"1"


@pytest.mark.parametrize("name", ["a b", "ü€😀", "a.b..c", ".hidden", "__half", "%2F", "a\nb", "'", "x" * 1500])
async def test_an_id_is_any_text_without_a_slash(store: Store, name: str) -> None:
    await put(store, f"things/{name}", b"v")
    assert await value_of(store, f"things/{name}") == b"v"
    assert await store.list("things/") == [f"things/{name}"]


# -- optimism ---------------------------------------------------------------------------------------------------------


async def test_a_step_runs_again_with_what_another_wrote_meanwhile(store: Store, backing: Backing) -> None:
    await put(store, "n/a", b"1")
    seen: list[bytes | None] = []

    def step(values: Values, _now: int) -> Change[int]:
        seen.append(values["n/a"])
        if len(seen) == 1:
            backing.put_elsewhere("n/a", b"10")
        return count_up("n/a")(values, 0)

    outcome = await store.transact(["n/a"], step)
    assert seen == [b"1", b"10"]
    assert (outcome.result, outcome.conflicts, outcome.writes, outcome.reads) == (11, 1, 2, 2)
    assert await value_of(store, "n/a") == b"11"


@pytest.mark.parametrize(("before", "meanwhile"), [(None, b"made"), (b"there", None), (b"x", b"y")])
async def test_step_reruns_when_a_read_key_changed(
    store: Store, backing: Backing, before: bytes | None, meanwhile: bytes | None
) -> None:
    await put(store, "n/read", before)
    seen: list[bytes | None] = []

    def step(values: Values, _now: int) -> Change[None]:
        seen.append(values["n/read"])
        if len(seen) == 1:
            backing.put_elsewhere("n/read", meanwhile)
        return Change(None, {"n/written": Put(values["n/read"] or b"absent")})

    outcome = await store.transact(["n/read", "n/written"], step)
    assert (seen, outcome.conflicts) == ([before, meanwhile], 1)
    assert await value_of(store, "n/written") == (meanwhile or b"absent")
    assert await value_of(store, "n/read") == meanwhile


async def test_a_key_that_was_deleted_and_made_again_counts_as_changed(store: Store, backing: Backing) -> None:
    await put(store, "n/a", b"same")
    runs = 0

    def step(_values: Values, _now: int) -> Change[None]:
        nonlocal runs
        runs += 1
        if runs == 1:
            backing.put_elsewhere("n/a", None)
            backing.put_elsewhere("n/a", b"same")
        return Change(None, {"n/a": Put(b"done")})

    assert (await store.transact(["n/a"], step)).conflicts == 1


async def test_a_refused_change_is_applied_to_none_of_its_keys(store: Store, backing: Backing) -> None:
    runs = 0

    def step(values: Values, _now: int) -> Change[None]:
        nonlocal runs
        runs += 1
        if runs > 1:
            return Change(None)
        backing.put_elsewhere("n/b", b"other's")
        return Change(None, {"n/a": Put(b"mine"), "n/b": Put(b"mine")})

    await store.transact(["n/a", "n/b"], step)
    assert [await value_of(store, key) for key in ("n/a", "n/b")] == [None, b"other's"]


async def test_contending_clients_lose_no_increment(backing: Backing) -> None:
    clients = [backing.client(), backing.client()]

    async def increments(store: Store) -> None:
        for _ in range(25):
            await store.transact(["n/a"], count_up("n/a"), timeout_s=30)

    await asyncio.gather(*(increments(clients[i % 2]) for i in range(8)))
    assert await value_of(clients[0], "n/a") == b"200"


async def test_an_exception_in_a_step_comes_out_and_nothing_is_written(store: Store) -> None:
    await put(store, "n/a", b"1")

    def step(_values: Values, _now: int) -> Change[None]:
        raise LookupError("the step's own")

    with pytest.raises(LookupError, match="the step's own"):
        await store.transact(["n/a"], step)
    assert await value_of(store, "n/a") == b"1"


async def test_step_without_writes_causes_no_conflict(store: Store, backing: Backing) -> None:
    await put(store, "n/a", b"1")
    runs = 0

    def step(values: Values, _now: int) -> Change[int]:
        nonlocal runs
        runs += 1
        backing.elsewhere(lambda other: other.transact(["n/a", "n/b"], lambda _values, _now: Change("looked")))
        return count_up("n/a")(values, 0)

    assert (await store.transact(["n/a"], step)).conflicts == 0
    assert runs == 1


async def test_changes_of_different_keys_do_not_conflict(store: Store, backing: Backing) -> None:
    def step(values: Values, _now: int) -> Change[int]:
        backing.put_elsewhere("n/b", b"x")
        return count_up("n/a")(values, 0)

    assert (await store.transact(["n/a"], step)).conflicts == 0


async def test_repeated_conflicts_end_without_a_write(store: Store, backing: Backing) -> None:
    """The deadline may end a commit that would have failed: whether it did is unknown then."""
    runs = 0

    def step(_values: Values, _now: int) -> Change[None]:
        nonlocal runs
        runs += 1
        backing.put_elsewhere("n/a", b"other's %d" % runs)
        return Change(None, {"n/a": Put(b"mine")})

    with pytest.raises((StoreUnavailable, CommitUnknown)):
        await store.transact(["n/a"], step, timeout_s=1)
    assert await value_of(store, "n/a") == b"other's %d" % runs


# -- the values last seen ---------------------------------------------------------------------------------------------


async def test_cached_transactions_add_up(store: Store) -> None:
    for expected in range(1, 6):
        outcome = await store.transact(["n/a"], count_up("n/a"), cached=True)
        assert (outcome.result, outcome.conflicts, outcome.writes) == (expected, 0, 1)
    if store.kind == "firestore":
        assert outcome.reads == 0, "one round trip, not two"


async def test_cached_transaction_notices_a_foreign_write(store: Store, backing: Backing) -> None:
    await store.transact(["n/a"], count_up("n/a"), cached=True)
    await put(backing.client(), "n/a", b"100")
    outcome = await store.transact(["n/a"], count_up("n/a"), cached=True)
    assert outcome.result == 101
    assert await value_of(backing.client(), "n/a") == b"101"
    assert (await store.transact(["n/a"], count_up("n/a"), cached=True)).result == 102


async def test_cached_no_write_decision_is_verified(store: Store, backing: Backing) -> None:
    """The step runs again if the stored documents differ from the cached ones."""
    await store.transact(["n/a"], count_up("n/a"), cached=True)
    await put(backing.client(), "n/a", b"100")
    outcome = await store.transact(["n/a"], lambda values, _now: Change(values["n/a"]), cached=True)
    assert (outcome.result, outcome.writes) == (b"100", 0)


async def test_all_cached_keys_are_compared(store: Store, backing: Backing) -> None:
    """Even if the step writes only one of them."""
    keys = ["n/a", "n/b"]

    def copy(values: Values, _now: int) -> Change[None]:
        return Change(None, {"n/b": Put(values["n/a"] or b"absent")})

    await store.transact(keys, copy, cached=True)
    assert await value_of(store, "n/b") == b"absent"
    await put(backing.client(), "n/a", b"there")
    await store.transact(keys, copy, cached=True)
    assert await value_of(store, "n/b") == b"there"


async def test_a_cached_entry_that_has_expired_since_is_absent(store: Store) -> None:
    def until(values: Values, now_ms: int) -> Change[bytes | None]:
        return Change(values["n/a"], {"n/a": Put(b"short-lived", now_ms + 150)})

    assert (await store.transact(["n/a"], until, cached=True)).result is None
    await asyncio.sleep(0.25)
    assert (await store.transact(["n/a"], until, cached=True)).result is None


# -- expiry -----------------------------------------------------------------------------------------------------------


async def now_ms(store: Store) -> int:
    return (await store.transact(["clock/x"], lambda _values, now: Change(now))).result


async def test_expired_entry_is_absent_and_can_be_recreated(store: Store) -> None:
    now = await now_ms(store)
    await put(store, "n/past", b"x", now - 1)
    await put(store, "n/soon", b"x", now + 60_000)
    await put(store, "n/ever", b"x")
    assert [await value_of(store, f"n/{name}") for name in ("past", "soon", "ever")] == [None, b"x", b"x"]
    assert await store.list("n/") == ["n/ever", "n/soon"]
    outcome = await store.transact(["n/past"], lambda values, _now: Change(values["n/past"], {"n/past": Put(b"new")}))
    assert (outcome.result, outcome.conflicts) == (None, 0)
    assert await value_of(store, "n/past") == b"new"


async def test_an_entry_expires_as_time_goes_by(store: Store) -> None:
    await put(store, "n/a", b"x", await now_ms(store) + 200)
    assert await value_of(store, "n/a") == b"x"
    await asyncio.sleep(0.3)
    assert await value_of(store, "n/a") is None
    assert await store.list("n/") == []


async def test_an_expired_entry_is_deleted_without_a_conflict(store: Store) -> None:
    await put(store, "n/a", b"x", 1)
    outcome = await store.transact(["n/a", "n/b"], lambda _values, _now: Change(None, {"n/a": None, "n/b": Put(b"y")}))
    assert outcome.conflicts == 0


async def test_an_expired_entry_that_stays_is_compared_too(store: Store) -> None:
    await put(store, "n/a", b"x", 1)
    outcome = await store.transact(["n/a", "n/b"], lambda _values, _now: Change(None, {"n/b": Put(b"y")}))
    assert (outcome.conflicts, await value_of(store, "n/a"), await value_of(store, "n/b")) == (0, None, b"y")


async def test_a_put_without_expiry_removes_an_earlier_one(store: Store) -> None:
    await put(store, "n/a", b"x", await now_ms(store) + 150)
    await put(store, "n/a", b"y")
    await asyncio.sleep(0.25)
    assert await value_of(store, "n/a") == b"y"


# -- listing ----------------------------------------------------------------------------------------------------------


async def test_keys_are_listed_by_prefix_sorted_and_limited(store: Store) -> None:
    names = ["b", "a", "ab", "a\U0010ffff", "a z", "B", "é", "😀", "10", "9", ".a", "_a", "__", "a.b"]
    for name in names:
        await put(store, f"n/{name}", b"x")
    await put(store, "nn/a", b"x")
    await put(store, "m/a", b"x")
    assert await store.list("n/") == sorted(f"n/{name}" for name in names)
    assert await store.list("n/a") == [f"n/{name}" for name in ("a", "a z", "a.b", "ab", "a\U0010ffff")]
    assert await store.list("n/a", limit=2) == ["n/a", "n/a z"]
    assert await store.list("n/.") == ["n/.a"]
    assert await store.list("n/__") == ["n/__"]
    assert await store.list("n/__none__") == await store.list("n/zz") == await store.list("none/") == []
    assert await store.list("n/é") == ["n/é"]


async def test_a_long_list_is_complete(store: Store) -> None:
    keys = [f"n/{i:04}" for i in range(650)]
    for start in range(0, len(keys), 65):
        some = keys[start : start + 65]
        await store.transact(some, lambda values, _now: Change(None, {key: Put(b"x") for key in values}))
    assert await store.list("n/") == keys
    assert await store.list("n/", limit=301) == keys[:301]
    assert await store.list("n/03") == keys[300:400]


# -- time -------------------------------------------------------------------------------------------------------------


async def test_time_samples_agree_with_each_other_and_never_go_back(store: Store, backing: Backing) -> None:
    samples: list[TimeSample] = []
    clients = [store, backing.client()]
    for i in range(20):
        began_s = elapsed_s()
        outcome = await clients[i % 2].transact(["n/a"], count_up("n/a"), cached=i % 3 == 0)
        samples += outcome.samples
        assert outcome.samples
        samples.append((await clients[(i + 1) % 2].read("n/a")).sample)
        assert all(sample.sent_s <= sample.received_s for sample in samples)
        assert samples[-1].received_s - 1e-3 <= elapsed_s()
        assert began_s <= outcome.samples[0].sent_s + 1e-3
    times = [sample.server_ms for sample in samples]
    assert times == sorted(times)
    # Each says: offset of the store's clock to elapsed time in [low, high]. Nothing wider than a float's rounding apart.
    lows = [sample.server_ms - sample.received_s * 1000 for sample in samples]
    highs = [sample.server_ms - sample.sent_s * 1000 for sample in samples]
    drift_ms = (samples[-1].received_s - samples[0].sent_s) * 1000 * 500e-6
    assert max(lows) <= min(highs) + drift_ms


async def test_step_gets_a_time_that_the_store_has_reached(store: Store, backing: Backing) -> None:
    told: list[int] = []

    def step(_values: Values, now: int) -> Change[None]:
        told.append(now)
        if len(told) == 1:
            backing.put_elsewhere("n/a", b"x")
        return Change(None, {"n/a": Put(b"y")})

    outcome = await store.transact(["n/a"], step)
    assert told == sorted(told)
    assert any(sample.server_ms - 1 <= told[-1] <= sample.server_ms for sample in outcome.samples)
    assert told[-1] <= outcome.samples[-1].server_ms
    assert told[-1] <= (await store.read("n/a")).sample.server_ms


# -- refusals ---------------------------------------------------------------------------------------------------------

BAD_KEYS = [
    "",
    "a",
    "a/",
    "/a",
    "a/b/c",
    "a/.",
    "a/..",
    "a/__x__",
    "../a",
    "__a__/b",
    "a/" + "x" * 1501,
    "a/" + "é" * 751,
    "a/\ud800",
]


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_a_bad_key_is_refused_before_anything_is_asked(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="is not a valid key"):
        await store.transact([key], lambda _values, _now: Change(None))
    with pytest.raises(ValueError, match="is not a valid key"):
        await store.read(key)


@pytest.mark.parametrize("prefix", ["", "a", "/", "a/b/c", "../", "a/\ud800"])
async def test_a_bad_prefix_is_refused(store: Store, prefix: str) -> None:
    with pytest.raises(ValueError, match="is not a valid prefix"):
        await store.list(prefix)


async def test_everything_has_a_bound(store: Store) -> None:
    with pytest.raises(ValueError, match="100 keys"):
        await store.transact([f"n/{i}" for i in range(101)], lambda _values, _now: Change(None))
    with pytest.raises(ValueError, match="100 keys"):
        await store.transact([], lambda _values, _now: Change(None))
    for limit in (0, 10_001):
        with pytest.raises(ValueError, match="limit of a listing"):
            await store.list("n/", limit=limit)


@pytest.mark.parametrize(
    ("writes", "reason"),
    [
        ({"n/a": Put(b"x" * (MAX_VALUE_BYTES + 1))}, "has 1000001 bytes"),
        ({"n/a": Put(b"x"), "n/other": Put(b"x")}, "is not one of its keys"),
        ({"n/a": Put(b"x", -1)}, "expire"),
        ({"n/a": Put(b"x", 10**15)}, "expire"),
        ({"n/a": Put(b"1"), **{f"n/{i}": Put(b"x" * MAX_VALUE_BYTES) for i in range(9)}}, "One change"),
    ],
)
async def test_a_change_that_cannot_be_stored_is_refused_whole(
    store: Store, writes: dict[str, Put], reason: str
) -> None:
    keys = ["n/a", *(f"n/{i}" for i in range(9))]
    with pytest.raises(ValueError, match=reason):
        await store.transact(keys, lambda _values, _now: Change(None, writes))
    assert await value_of(store, "n/a") is None


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_closed_store_rejects_calls_and_closes_twice(store: Store, backing: Backing) -> None:
    await put(store, "n/a", b"x")
    await store.aclose()
    await store.aclose()
    for use in (store.read("n/a"), store.list("n/"), store.transact(["n/a"], lambda _values, _now: Change(None))):
        with pytest.raises(StoreUnavailable, match="closed"):
            await use
    assert await value_of(backing.client(), "n/a") == b"x"


async def test_a_store_that_was_never_used_is_closed_without_a_word(store: Store) -> None:
    await store.aclose()
