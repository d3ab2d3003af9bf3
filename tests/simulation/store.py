"""Firestore as it may behave: the real adapter on a virtual connection whose messages are late, lost and repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import grpc
from grpc import aio

from shared.stores.firestore import FirestoreStore
from shared.stores.firestore_rpc import Doc
from shared.stores.port import Put
from shared.stores.retry_budget import RetryBudget
from tests.simulation.contention import Contention, TooMuchContention
from tests.simulation.loop import Process, VirtualLoop

T = TypeVar("T")

_LATE_S = (1.0, 20.0)
"""How much longer than usual a late message travels: in some cases longer than its sender waits."""


@dataclass(slots=True)
class Network:
    """What happens to messages to the store. Probabilities are per message; `outage` affects all messages now."""

    random: Random
    delay_s: tuple[float, float]
    lost: float = 0.0
    repeated: float = 0.0
    late: float = 0.0
    outage: str = ""
    """`refuse`: an error at once, `overloaded`: an error that says that nothing was applied, `hang`: nothing arrives,
    `mute`: requests arrive and answers do not."""
    cut: set[str] = field(default_factory=set)
    """Processes that are cut off from the store, in both directions."""

    def travel_s(self) -> float:
        """A travel time, mostly near the minimum and sometimes near the maximum, as in networks."""
        least, most = self.delay_s
        usual = least + (most - least) * self.random.random() ** 3
        return usual + self.random.uniform(*_LATE_S) if self.late and self.random.random() < self.late else usual

    def loses(self) -> bool:
        return bool(self.lost) and self.random.random() < self.lost

    def repeats(self) -> bool:
        return bool(self.repeated) and self.random.random() < self.repeated


class StoreServer:
    """The documents, each with a version that is never used twice, and the clock that is the ledger's time."""

    def __init__(self, loop: VirtualLoop, began_ms: float, contention: Contention) -> None:
        self.loop, self.began_ms, self.contention = loop, began_ms, contention
        self.docs: dict[str, Doc] = {}
        self.on_commit: list[Callable[[str, bytes | None], None]] = []
        """Told of every key that changes."""
        self.reads = self.commits = 0
        self.conflicts = self.contended = 0
        """Commits that were rejected because a document had changed, or because too many others waited for it."""
        self._changing: set[str] = set()
        """Documents that a commit which waits will change: those behind it will be rejected."""

    def now_ms(self) -> float:
        return self.began_ms + self.loop.now_s * 1000

    def value(self, key: str) -> bytes | None:
        return self.docs.get(key, Doc()).value

    def read(self, keys: Sequence[str]) -> tuple[dict[str, Doc], float]:
        self.reads += 1
        return {key: self.docs.get(key, Doc()) for key in keys}, self.now_ms()

    def enter(self, docs: Mapping[str, Doc]) -> float:
        """How long it takes until a commit that arrives now is served. Raises aio.AioRpcError where too many others wait.

        It waits for the first of its documents only: a ledger is one document."""
        key, doc = next(iter(docs.items()))
        rejected = key in self._changing or self.docs.get(key, Doc()).version != doc.version
        try:
            wait_s = self.contention.enter(key, self.loop.now_s, rejected=rejected)
        except TooMuchContention:
            self.contended += 1
            raise rpc_error(grpc.StatusCode.ABORTED) from None
        if wait_s and not rejected:
            self._changing.add(key)
        return wait_s

    def commit(self, docs: Mapping[str, Doc], writes: Mapping[str, Put | None]) -> tuple[dict[str, Doc], float]:
        for key, doc in docs.items():
            if self.docs.get(key, Doc()).version != doc.version:
                self.conflicts += 1
                raise rpc_error(grpc.StatusCode.FAILED_PRECONDITION)
        self.commits += 1
        self._changing.difference_update(docs)
        now = dict(docs)
        for key, put in writes.items():
            now[key] = Doc() if put is None else Doc(put.value, self.commits, put.expires_at_ms)
            self.docs[key] = now[key]
            for told in self.on_commit:
                told(key, now[key].value)
        return now, self.now_ms()


def rpc_error(code: grpc.StatusCode) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details=f"simulated {code.name}")


class VirtualConnection:
    """What FirestoreStore needs of a connection. Every call is two messages, each with a fate of its own."""

    def __init__(self, server: StoreServer, network: Network, process: Process) -> None:
        self.server, self.network, self.process = server, network, process

    async def read(self, keys: Sequence[str], timeout_s: float) -> tuple[dict[str, Doc], float]:
        return await self._call(lambda: self.server.read(keys), timeout_s)

    async def commit(
        self, docs: Mapping[str, Doc], writes: Mapping[str, Put | None], timeout_s: float
    ) -> tuple[dict[str, Doc], float]:
        return await self._call(lambda: self.server.commit(docs, writes), timeout_s, docs)

    async def _call(self, request: Callable[[], T], timeout_s: float, committed: Mapping[str, Doc] | None = None) -> T:
        """`committed`: the documents on which a commit depends; None for a read."""
        loop, network = self.process.loop, self.network
        answer: asyncio.Future[T] = loop.create_future()
        timer = loop.call_later(timeout_s, _settle, answer, rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED))
        if network.outage in ("refuse", "overloaded"):
            loop.post(network.travel_s(), _settle, answer, rpc_error(_CODES[network.outage]))
        else:
            for _ in range(1 + network.repeats()):
                if not self._is_lost("hang"):
                    loop.post(network.travel_s(), self._arrive, request, answer, committed)
        try:
            return await answer
        finally:
            timer.cancel()

    def _is_lost(self, outage: str) -> bool:
        return self.network.outage == outage or self.process.name in self.network.cut or self.network.loses()

    def _arrive(self, request: Callable[[], T], answer: asyncio.Future[T], committed: Mapping[str, Doc] | None) -> None:
        try:
            wait_s = self.server.enter(committed) if committed else 0.0
        except aio.AioRpcError as error:
            self._reply(error, answer)
            return
        if wait_s:
            self.process.loop.post(wait_s, self._apply, request, answer)
        else:
            self._apply(request, answer)

    def _apply(self, request: Callable[[], T], answer: asyncio.Future[T]) -> None:
        try:
            result: Any = request()
        except aio.AioRpcError as error:
            result = error
        self._reply(result, answer)

    def _reply(self, result: Any, answer: asyncio.Future[T]) -> None:
        if not self._is_lost("hang") and not self._is_lost("mute"):
            self.process.loop.post(self.network.travel_s(), _settle, answer, result)


_CODES = {"refuse": grpc.StatusCode.UNAVAILABLE, "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED}


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        if isinstance(result, BaseException):
            answer.set_exception(result)
        else:
            answer.set_result(result)


class VirtualStore(FirestoreStore):
    """One process's client."""

    def __init__(self, server: StoreServer, network: Network, process: Process) -> None:
        super().__init__("simulation", emulator_host="nowhere")
        self._virtual = VirtualConnection(server, network, process)

    async def _connected(self, budget: RetryBudget) -> Any:
        return self._virtual
