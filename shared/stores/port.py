"""The store's port. A key is `collection/id`; a value is opaque bytes; time is the store's own.

Every adapter holds the same promises (tests/contract):
- `transact` reads its keys, calls `step` with them, and applies what it returns all or nothing, only if none of the keys
  changed in between; otherwise it reads again and calls `step` again (which must therefore be pure).
- It holds no lock while `step` runs that could stop another process.
- An entry past its `expires_at_ms` is absent, whether or not it was already deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

MAX_VALUE_BYTES = 1_000_000
"""Firestore's document limit is 1 MiB with its key and field names; every adapter refuses more (ValueError)."""


class TimeSample(NamedTuple):
    """The store's clock showed `server_ms` (since 1970) at some moment between two readings of `clock.elapsed_s()`."""

    server_ms: float
    sent_s: float
    received_s: float


class Put(NamedTuple):
    """Write `value`; the entry is absent from `expires_at_ms` on (the store's time, since 1970), never if None."""

    value: bytes
    expires_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What a step decided: a Put or None (delete) per key it changes (other keys stay), and a result to hand back."""

    result: T
    writes: Mapping[str, Put | None] = field(default_factory=dict)


Step = Callable[[Mapping[str, bytes | None], int], Change[T]]
"""`step(values, now_ms)`: every key asked for is present, None when absent; `now_ms` <= the store's true time."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """A transaction that took effect (or decided to write nothing)."""

    result: T
    samples: tuple[TimeSample, ...] = ()
    conflicts: int = 0
    reads: int = 0
    writes: int = 0
    """Commits sent to the store, of which `conflicts` were refused."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One entry as it was at `sample`; `value` None when absent."""

    value: bytes | None
    sample: TimeSample


class StoreError(Exception):
    """A transaction or read that did not succeed. The message is for the operator."""

    def __init__(self, message: str, place: str = "") -> None:
        """`place`: what the message names that only the operator may know, like a file's path."""
        super().__init__(message)
        self.place = place

    @property
    def public_message(self) -> str:
        """The message without the place, for everybody."""
        return " ".join(str(self).replace(self.place, "").split()) if self.place else str(self)


class StoreUnavailable(StoreError):
    """Certainly not applied: the store could not be reached, refused, or was changed by others more often than we tried."""


class CommitUnknown(StoreError):
    """May or may not have been applied: the reply to a commit was lost. The caller reads again and decides."""


class Store(Protocol):
    """Bound to the event loop of its first call; made lazily in the worker (a gRPC channel does not survive a fork)."""

    kind: str
    """`memory`, `sqlite` or `firestore`: shown by /health."""

    async def transact(
        self, keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[T]:
        """Run `step` on `keys` and apply its change. `cached`: try first on the values last seen by this process, one
        round trip instead of two; the commit's precondition makes that safe. Raises StoreUnavailable, CommitUnknown."""
        ...

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        """The entry as it is now. Raises StoreUnavailable."""
        ...

    async def list(self, prefix: str, *, limit: int = 1000) -> list[str]:
        """Keys that start with `prefix` (`collection/` or `collection/start-of-id`), sorted; expired ones left out."""
        ...

    async def aclose(self) -> None: ...


class Liveness(Protocol):
    """Which processes on this machine are gone. Only a store whose users share a machine can know."""

    def claim(self, owner: str) -> None:
        """This process is `owner` until it ends, however it ends."""
        ...

    def gone(self, owner: str) -> bool:
        """True only if `owner` claimed here and its process has certainly ended; never True for one that may live."""
        ...
