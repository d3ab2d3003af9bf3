"""Firestore's rejected commits: how long the store waits before it tries again, and what it remembers for the next call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc
import pytest

from shared.stores import firestore as module
from shared.stores import retry_budget
from shared.stores.firestore import FirestoreStore
from shared.stores.firestore_rpc import Doc
from shared.stores.port import Change, Put, StoreContended, StoreUnavailable

FIRST_S, MAX_S = 0.2, 8.0


class Contended:
    """A connection to one document, on which the next `rejections` commits fail because others write it first."""

    def __init__(self) -> None:
        self.rejections = self.commits = 0

    async def read(self, keys: Sequence[str], _timeout_s: float) -> tuple[dict[str, Doc], float]:
        return dict.fromkeys(keys, Doc()), 1_000.0

    async def commit(
        self, docs: Mapping[str, Doc], _writes: Mapping[str, Put | None], _timeout_s: float
    ) -> tuple[dict[str, Doc], float]:
        self.commits += 1
        if self.rejections:
            self.rejections -= 1
            raise grpc.aio.AioRpcError(grpc.StatusCode.ABORTED, grpc.aio.Metadata(), grpc.aio.Metadata())
        return dict(docs), 1_000.0


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Contended:
    connection = Contended()
    monkeypatch.setattr(module, "Connection", lambda *_: connection)
    return connection


@pytest.fixture
def bounds_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The bound of each pause. None takes any time."""
    bounds_s: list[float] = []

    def uniform(low: float, high: float) -> float:
        bounds_s.append(high)
        return low

    monkeypatch.setattr(retry_budget.random, "uniform", uniform)
    return bounds_s


async def write(store: FirestoreStore, key: str = "n/a", writers: int = 0) -> int:
    """How many commits were rejected."""
    outcome = await store.transact([key], lambda _values, _now: Change(None, {key: Put(b"1")}, writers), timeout_s=60.0)
    return outcome.conflicts


@pytest.fixture
def store(connection: Contended) -> FirestoreStore:
    return FirestoreStore("project", emulator_host="nowhere:1")


async def test_pauses_grow_with_each_rejected_commit(
    store: FirestoreStore, connection: Contended, bounds_s: list[float]
) -> None:
    connection.rejections = 8
    assert await write(store) == 8
    assert bounds_s == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, MAX_S, MAX_S])


@pytest.mark.parametrize(
    ("writers", "longest_s"), [(1, 1.0), (12, 1.0), (40, 3.2), (100, MAX_S), (1_000, MAX_S)],
)  # fmt: skip
async def test_few_writers_make_no_long_pauses(
    store: FirestoreStore, connection: Contended, bounds_s: list[float], writers: int, longest_s: float
) -> None:
    """Otherwise one process would wait while the others commit again and again."""
    connection.rejections = 8
    await write(store, writers=writers)
    assert bounds_s == pytest.approx([min(0.2 * 2**at, longest_s) for at in range(8)])


async def test_the_next_call_begins_with_half_of_the_last_pause(
    store: FirestoreStore, connection: Contended, bounds_s: list[float]
) -> None:
    connection.rejections = 4
    await write(store)
    assert bounds_s == pytest.approx([0.2, 0.4, 0.8, 1.6])
    bounds_s.clear()
    connection.rejections = 1
    await write(store)
    assert bounds_s == pytest.approx([1.6]), "half of the 3.2 s that would have come next"


async def test_accepted_commits_shorten_the_pause_again(
    store: FirestoreStore, connection: Contended, bounds_s: list[float]
) -> None:
    connection.rejections = 4
    for _ in range(3):
        await write(store)
    bounds_s.clear()
    connection.rejections = 1
    await write(store)
    assert bounds_s == pytest.approx([0.4])
    for _ in range(10):
        await write(store)
    bounds_s.clear()
    connection.rejections = 1
    await write(store)
    assert bounds_s == pytest.approx([FIRST_S]), "never shorter than at the start"


async def test_a_contended_entry_is_told_from_an_outage(
    store: FirestoreStore, connection: Contended, bounds_s: list[float]
) -> None:
    """After thirty tries. The next call begins with the longest pause."""
    connection.rejections = 1_000
    with pytest.raises(StoreContended, match=r"the entry n/a had 30 conflicts in a row\.") as caught:
        await write(store)
    assert isinstance(caught.value, StoreUnavailable), "nothing was applied"
    assert caught.value.writes == 30
    assert connection.commits == 30
    bounds_s.clear()
    connection.rejections = 1
    await write(store)
    assert bounds_s == [MAX_S]


async def test_each_entry_has_its_own_pauses(
    store: FirestoreStore, connection: Contended, bounds_s: list[float]
) -> None:
    connection.rejections = 5
    await write(store)
    bounds_s.clear()
    connection.rejections = 1
    await write(store, "n/b")
    assert bounds_s == [FIRST_S]


async def test_remembered_pauses_are_bounded(store: FirestoreStore, connection: Contended) -> None:
    for number in range(1_100):
        store._remember(f"n/{number}", 1.0)
    assert len(store._contended) == 1_000


async def test_reads_do_not_begin_with_the_long_pause(
    store: FirestoreStore, connection: Contended, bounds_s: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.rejections = 6
    await write(store)
    bounds_s.clear()
    fail = [grpc.StatusCode.UNAVAILABLE]
    read = connection.read

    async def read_later(keys: Sequence[str], timeout_s: float) -> tuple[dict[str, Doc], float]:
        if fail:
            raise grpc.aio.AioRpcError(fail.pop(), grpc.aio.Metadata(), grpc.aio.Metadata())
        return await read(keys, timeout_s)

    monkeypatch.setattr(connection, "read", read_later)
    await store.read("n/a")
    assert bounds_s == [0.02]
