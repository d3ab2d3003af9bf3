"""The three stores, each as something that several clients can be opened on, and the three places of images and files."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from shared.stores.firestore import FirestoreStore
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import Change, Put, Store
from shared.stores.sqlite import SqliteStore
from tests.support.object_stores import AWS, KINDS, ObjectStore, bucket_store, folder_store

T = TypeVar("T")


class Backing:
    """One body of data; `client()` is another Store on it."""

    def __init__(self, make: Callable[[], Store]) -> None:
        self._make = make
        self._clients: list[Store] = []

    def client(self) -> Store:
        self._clients.append(self._make())
        return self._clients[-1]

    def elsewhere(self, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        """Do `work` with another client on another thread's loop while this thread stands still, as it does in a step."""
        results: list[T] = []

        async def run() -> None:
            store = self._make()
            try:
                results.append(await work(store))
            finally:
                await store.aclose()

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        thread.join(10)
        assert results, "the work on the other thread did not finish: is something locked while a step runs?"
        return results[0]

    def put_elsewhere(self, key: str, value: bytes | None) -> None:
        self.elsewhere(lambda store: put(store, key, value))

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()


async def put(store: Store, key: str, value: bytes | None, expires_at_ms: int | None = None) -> None:
    await store.transact([key], lambda _values, _now: Change(None, {key: value and Put(value, expires_at_ms)}))


@pytest.fixture(params=["memory", "sqlite", "firestore"])
async def backing(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backing]:
    if request.param == "memory":
        shelf = Shelf()
        backing = Backing(lambda: MemoryStore(shelf))
    elif request.param == "sqlite":
        backing = Backing(lambda: SqliteStore(tmp_path / "made" / "store.db"))
    else:
        host, project = request.getfixturevalue("firestore_host"), f"test-{secrets.token_hex(6)}"
        backing = Backing(lambda: FirestoreStore(project, emulator_host=host))
    yield backing
    await backing.aclose()


@pytest.fixture
def store(backing: Backing) -> Store:
    return backing.client()


@pytest.fixture(params=KINDS)
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ObjectStore]:
    if request.param == "file":
        yield folder_store(tmp_path / "made" / "storage")
        return
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    origin = request.getfixturevalue("gcs_origin" if request.param == "gs" else "s3_origin")
    async with bucket_store(request.param, origin) as store:
        yield store
