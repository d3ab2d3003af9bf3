"""Firestore beyond the contract: what becomes of calls that fail, hang, or are cut off. Google's emulator, through a proxy."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import google.auth
import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport

from shared.clock import elapsed_s
from shared.stores import firestore_rpc
from shared.stores.firestore import FirestoreStore
from shared.stores.port import Change, CommitUnknown, Put, Store, StoreUnavailable
from tests.support.firestore_proxy import FirestoreProxy
from tests.support.whole_path import eventually

Code = grpc.StatusCode
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def proxy(firestore_host: str) -> AsyncIterator[FirestoreProxy]:
    async with FirestoreProxy(firestore_host) as proxy:
        yield proxy


@pytest.fixture
def project() -> str:
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
async def store(proxy: FirestoreProxy, project: str) -> AsyncIterator[FirestoreStore]:
    """Through the proxy."""
    store = FirestoreStore(project, emulator_host=proxy.host)
    yield store
    await store.aclose()


@pytest.fixture
async def direct(firestore_host: str, project: str) -> AsyncIterator[FirestoreStore]:
    """The same data, without the proxy."""
    store = FirestoreStore(project, emulator_host=firestore_host)
    yield store
    await store.aclose()


async def increment(store: Store, *, cached: bool = False, timeout_s: float = 5.0) -> int:
    def step(values: Mapping[str, bytes | None], _now: int) -> Change[int]:
        count = int(values["n/a"] or 0) + 1
        return Change(count, {"n/a": Put(b"%d" % count)})

    return (await store.transact(["n/a"], step, cached=cached, timeout_s=timeout_s)).result


async def count(store: Store) -> int:
    return int((await store.read("n/a")).value or 0)


OPEN = [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS]


@pytest.mark.parametrize("code", OPEN)
async def test_ambiguous_commit_failure_is_not_repeated(
    store: FirestoreStore, direct: FirestoreStore, proxy: FirestoreProxy, code: grpc.StatusCode
) -> None:
    proxy.fail_commits_before = [code]
    with pytest.raises(CommitUnknown, match=code.name):
        await increment(store)
    assert (proxy.commits, await count(direct)) == (1, 0)


@pytest.mark.parametrize("code", OPEN)
async def test_lost_commit_confirmation_is_not_repeated(
    store: FirestoreStore, direct: FirestoreStore, proxy: FirestoreProxy, code: grpc.StatusCode
) -> None:
    proxy.fail_commits_after = [code]
    with pytest.raises(CommitUnknown, match=code.name):
        await increment(store)
    assert (proxy.commits, await count(direct)) == (1, 1)


@pytest.mark.parametrize("applied", [False, True])
async def test_cached_transaction_reads_after_unknown_commit(
    store: FirestoreStore, proxy: FirestoreProxy, applied: bool
) -> None:
    await increment(store, cached=True)
    (proxy.fail_commits_after if applied else proxy.fail_commits_before).append(Code.UNAVAILABLE)
    with pytest.raises(CommitUnknown):
        await increment(store, cached=True)
    reads = proxy.reads
    assert await increment(store, cached=True) == (3 if applied else 2)
    assert proxy.reads == reads + 1


@pytest.mark.parametrize(
    "code", [Code.PERMISSION_DENIED, Code.UNAUTHENTICATED, Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT]
)
async def test_a_refused_commit_was_certainly_not_applied(
    store: FirestoreStore, direct: FirestoreStore, proxy: FirestoreProxy, code: grpc.StatusCode
) -> None:
    proxy.fail_commits_before = [code]
    with pytest.raises(StoreUnavailable, match=code.name):
        await increment(store)
    assert (proxy.commits, await count(direct)) == (1, 0)


@pytest.mark.parametrize("code", [Code.ABORTED, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION])
async def test_a_conflict_is_resolved_by_reading_again(
    store: FirestoreStore, proxy: FirestoreProxy, code: grpc.StatusCode
) -> None:
    proxy.fail_commits_before = [code, code]
    outcome = await store.transact(["n/a"], lambda _values, _now: Change("x", {"n/a": Put(b"1")}))
    assert (outcome.conflicts, outcome.reads, outcome.writes, proxy.commits) == (2, 3, 3, 3)


async def test_commit_timeout_is_unknown(store: FirestoreStore, proxy: FirestoreProxy) -> None:
    await increment(store, cached=True)
    proxy.hold = asyncio.Event()
    began_s = elapsed_s()
    with pytest.raises(CommitUnknown, match="DEADLINE_EXCEEDED"):
        await increment(store, cached=True, timeout_s=0.2)
    assert elapsed_s() - began_s < 2
    proxy.hold.set()


async def test_a_read_without_an_answer_ends_with_the_time(store: FirestoreStore, proxy: FirestoreProxy) -> None:
    proxy.hold = asyncio.Event()
    with pytest.raises(StoreUnavailable, match="DEADLINE_EXCEEDED"):
        await store.read("n/a", timeout_s=0.2)
    with pytest.raises(StoreUnavailable, match="DEADLINE_EXCEEDED"):
        await increment(store, timeout_s=0.2)
    assert proxy.commits == 0
    proxy.hold.set()


@pytest.mark.parametrize("during", ["read", "commit"])
async def test_cancelling_the_caller_is_seen_by_the_caller(
    store: FirestoreStore, proxy: FirestoreProxy, during: str
) -> None:
    if during == "commit":
        await increment(store, cached=True)
    proxy.hold = asyncio.Event()
    task = asyncio.create_task(increment(store, cached=True))
    await eventually(lambda: proxy.held == 1)
    assert (proxy.reads, proxy.commits) == ((1, 0) if during == "read" else (1, 2))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    proxy.hold.set()
    proxy.hold = None
    # Whether the commit that was held is still applied is Firestore's affair; the store goes on with what is there.
    assert await increment(store, cached=True) in ((1,) if during == "read" else (2, 3))


async def test_closing_is_not_a_cancelled_caller(store: FirestoreStore, proxy: FirestoreProxy) -> None:
    await increment(store, cached=True)
    proxy.hold = asyncio.Event()
    commit, read = asyncio.create_task(increment(store, cached=True)), asyncio.create_task(store.read("n/b"))
    await eventually(lambda: proxy.held == 2)
    await store.aclose()
    with pytest.raises(CommitUnknown, match="closed"):
        await commit
    with pytest.raises(StoreUnavailable, match="closed"):
        await read
    proxy.hold.set()


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.INTERNAL, Code.UNKNOWN])
async def test_a_read_that_failed_in_passing_is_repeated(
    store: FirestoreStore, proxy: FirestoreProxy, code: grpc.StatusCode
) -> None:
    proxy.fail_reads = [code, code]
    assert await increment(store) == 1
    proxy.fail_reads = [code, code]
    assert await store.list("n/") == ["n/a"]


async def test_refused_read_is_reported_without_a_retry(store: FirestoreStore, proxy: FirestoreProxy) -> None:
    proxy.fail_reads = [Code.PERMISSION_DENIED, Code.NOT_FOUND]
    with pytest.raises(StoreUnavailable, match=r"PERMISSION_DENIED: injected before anything was done\."):
        await store.read("n/a")
    with pytest.raises(StoreUnavailable, match="NOT_FOUND"):
        await increment(store)
    assert (proxy.reads, proxy.commits) == (2, 0)


async def test_firestore_outage_fails_fast_and_recovers(firestore_host: str, project: str) -> None:
    async with FirestoreProxy(firestore_host) as proxy:
        store = FirestoreStore(project, emulator_host=proxy.host)
        assert await increment(store) == 1
    port = int(proxy.host.rpartition(":")[2])
    began_s = elapsed_s()
    for _ in range(3):
        for use in (store.read("n/a"), store.list("n/"), increment(store)):
            with pytest.raises(StoreUnavailable, match="UNAVAILABLE"):
                await use
    with pytest.raises(CommitUnknown):
        await increment(store, cached=True)
    with pytest.raises(StoreUnavailable, match="UNAVAILABLE"):
        await increment(store, cached=True)
    assert elapsed_s() - began_s < 5
    async with FirestoreProxy(firestore_host, port):
        for _ in range(50):
            try:
                assert await increment(store) == 2
                break
            except StoreUnavailable:
                await asyncio.sleep(0.1)
        else:
            pytest.fail("the store did not come back")
        await store.aclose()


async def test_each_call_names_its_database(store: FirestoreStore, proxy: FirestoreProxy, project: str) -> None:
    await increment(store)
    assert proxy.metadata["google-cloud-resource-prefix"] == f"projects/{project}/databases/(default)"
    assert proxy.metadata["x-goog-request-params"] == f"database=projects%2F{project}%2Fdatabases%2F%28default%29"


async def test_databases_of_one_project_are_apart(firestore_host: str, project: str) -> None:
    one, two = (FirestoreStore(project, name, emulator_host=firestore_host) for name in ("(default)", "other"))
    assert (await increment(one), await increment(one), await increment(two)) == (1, 2, 1)
    await one.aclose()
    await two.aclose()


async def test_missing_credentials_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent.json")
    store = FirestoreStore("some-project")
    with pytest.raises(StoreUnavailable, match="credentials"):
        await store.read("n/a")
    await store.aclose()


async def test_with_credentials_it_connects_to_google(
    firestore_host: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    made: list[tuple[str, object]] = []

    class ToTheEmulator(FirestoreGrpcAsyncIOTransport):
        @classmethod
        def create_channel(cls, host: str, **rest: Any) -> Any:
            made.append((host, rest["credentials"]))
            super().create_channel(host, **rest)
            return grpc.aio.insecure_channel(firestore_host)

    credentials = AnonymousCredentials()
    monkeypatch.setattr(firestore_rpc, "FirestoreGrpcAsyncIOTransport", ToTheEmulator)
    monkeypatch.setattr(google.auth, "default", lambda scopes: (credentials, "some-project"))
    store = FirestoreStore(project)
    assert await asyncio.gather(store.list("n/"), store.list("m/")) == [[], []]
    assert await increment(store) == 1
    assert made == [("firestore.googleapis.com:443", credentials)]
    await store.aclose()


async def test_looking_for_credentials_has_a_time_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    monkeypatch.setattr(google.auth, "default", lambda scopes: time.sleep(0.3))
    store = FirestoreStore("some-project")
    with pytest.raises(StoreUnavailable, match="not found in time"):
        await store.read("n/a", timeout_s=0.02)
    await store.aclose()


async def test_the_emulator_is_also_found_in_the_environment(
    firestore_host: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    store = FirestoreStore(project)
    assert await increment(store) == 1
    await store.aclose()


def test_store_moves_to_a_new_loop_after_the_old_one(firestore_host: str, project: str) -> None:
    store = FirestoreStore(project, emulator_host=firestore_host)
    assert asyncio.run(increment(store)) == 1
    assert asyncio.run(increment(store)) == 2
    with asyncio.Runner() as runner:
        assert runner.run(increment(store)) == 3
        with asyncio.Runner() as other, pytest.raises(RuntimeError, match="still open"):
            other.run(increment(store))
        runner.run(store.aclose())


FORKING = """
import asyncio, os, sys
from shared.stores.firestore import FirestoreStore
from shared.stores.port import Change, Put, StoreUnavailable

store = FirestoreStore(sys.argv[1], emulator_host=sys.argv[2])

async def append(text):
    step = lambda values, now: Change(None, {"n/a": Put((values["n/a"] or b"") + text)})
    await store.transact(["n/a"], step)

def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)

def refused():
    try:
        asyncio.run(append(b"never "))
    except StoreUnavailable as error:
        os.write(1, str(error).encode())

in_child(lambda: asyncio.run(append(b"child ")))
asyncio.run(append(b"parent "))
in_child(refused)
"""


async def test_store_works_only_if_forked_before_its_first_use(
    direct: FirestoreStore, firestore_host: str, project: str
) -> None:
    script = [sys.executable, "-c", FORKING, project, firestore_host]
    done = await asyncio.to_thread(
        subprocess.run, script, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert "forked" in done.stdout
    assert (await direct.read("n/a")).value == b"child parent "
