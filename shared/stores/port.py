"""The port of all stores. A key is `collection/id`, a value is opaque bytes, and time is the store's own clock.

Every adapter keeps the same promises (tests/contract):
- `transact` reads its keys, passes the values to `step` and applies the returned change atomically, if none of the keys has
  changed meanwhile. Otherwise it reads again and calls `step` again, which must therefore be pure.
- While `step` runs, no lock is held that could block another process.
- An entry past its `expires_at_ms` counts as absent, even if it is not deleted yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

KEYS_PER_READ = 100
"""Maximum keys of one transaction."""
MAX_VALUE_BYTES = 1_000_000
"""Firestore's limit for a document is 1 MiB, including its key and field names. Every adapter raises ValueError above this."""


class TimeSample(NamedTuple):
    """The store's clock showed `server_ms` (since 1970) at a moment between two readings of `clock.elapsed_s()`."""

    server_ms: float
    sent_s: float
    received_s: float


class Put(NamedTuple):
    """Writes `value`. The entry expires at `expires_at_ms` (the store's time, since 1970); never if that is None."""

    value: bytes
    expires_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """A step's decision: for each key that it changes a Put, or None to delete it; and the result to return."""

    result: T
    writes: Mapping[str, Put | None] = field(default_factory=dict)
    writers: int = 0
    """How many processes write these entries often, if the step knows it; 0: unknown. After a rejected commit, a process waits
    no longer than so many commits take: with fewer writers, a longer pause would let the others go first again and again."""


Step = Callable[[Mapping[str, bytes | None], int], Change[T]]
"""`step(values, now_ms)`: `values` has every key, with None for an absent entry; `now_ms` is at most the store's time."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """A transaction that was applied, or that decided to write nothing."""

    result: T
    samples: tuple[TimeSample, ...] = ()
    conflicts: int = 0
    reads: int = 0
    writes: int = 0
    """Commits sent to the store, including `conflicts` rejected ones."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One entry at the time of `sample`; `value` is None if it was absent."""

    value: bytes | None
    sample: TimeSample


class StoreError(Exception):
    """A transaction or read failed. The message is for the operator."""

    def __init__(self, message: str, place: str = "") -> None:
        """`place`: the part of the message that only the operator may see, like a file's path."""
        super().__init__(message)
        self.place = place

    @property
    def public_message(self) -> str:
        """The message without the place, which callers may see."""
        return " ".join(str(self).replace(self.place, "").split()) if self.place else str(self)


class StoreUnavailable(StoreError):
    """Nothing was applied: the store was unreachable, rejected the call, or lost every conflict that the budget allowed."""


class StoreContended(StoreUnavailable):
    """Nothing was applied, because others changed the entry before each of `writes` commits. The store itself can be reached."""

    def __init__(self, message: str, place: str = "", *, writes: int = 0) -> None:
        super().__init__(message, place)
        self.writes = writes


class CommitUnknown(StoreError):
    """The reply to a commit was lost, so it may or may not have been applied. The caller must read again and decide."""


class Store(Protocol):
    """Bound to the event loop of its first call. Create it in the worker, because a gRPC channel does not survive a fork."""

    kind: str
    """`memory`, `sqlite` or `firestore`, as /health shows it."""

    async def transact(
        self, keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[T]:
        """Runs `step` on `keys` and applies its change. Raises StoreUnavailable and CommitUnknown.

        `cached`: first try the values that this process saw last, which takes one round trip instead of two. The commit's
        precondition makes that safe."""
        ...

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        """Reads one entry. Raises StoreUnavailable."""
        ...

    async def list(self, prefix: str, *, limit: int = 1000) -> list[str]:
        """The sorted keys that start with `prefix` (`collection/` or `collection/start-of-id`), without expired entries."""
        ...

    async def aclose(self) -> None: ...


async def transact_repeated(store: Store, keys: Sequence[str], step: Step[T], *, tries: int = 2) -> Outcome[T]:
    """`Store.transact` for a step that may be applied twice: a commit with an unknown outcome is repeated. Raises StoreError."""
    for _ in range(tries - 1):
        with suppress(CommitUnknown):
            return await store.transact(keys, step)
    return await store.transact(keys, step)


async def read_all(store: Store, keys: Sequence[str], timeout_s: float = 5.0) -> Mapping[str, bytes | None]:
    """The values of any number of entries in their order, KEYS_PER_READ of them in one round trip. Raises StoreError."""

    def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[Mapping[str, bytes | None]]:
        return Change(dict(values))

    batches = [keys[at : at + KEYS_PER_READ] for at in range(0, len(keys), KEYS_PER_READ)]
    outcomes = await asyncio.gather(*(store.transact(batch, step, timeout_s=timeout_s) for batch in batches))
    values = {key: value for outcome in outcomes for key, value in outcome.result.items()}
    return {key: values[key] for key in keys}


class Liveness(Protocol):
    """Tells which processes of this machine have ended. Only a store whose clients share a machine can."""

    def claim(self, owner: str) -> None:
        """Registers this process as `owner` until it ends, in whatever way."""
        ...

    def gone(self, owner: str) -> bool:
        """True only if the process that claimed `owner` here has certainly ended."""
        ...
