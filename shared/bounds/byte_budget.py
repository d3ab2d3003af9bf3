"""The memory budget of a process for request bodies and waiting events, and the share of each caller in it. Pure.

A body takes memory from its first byte until its request ends, long before its key is known to be valid. So every body has a
claim on one budget for all that time. The claim grows as the body arrives: a client that declares 31 MB and sends nothing
holds nothing. The events of a stream that wait for their slow client have a claim too.

    total       the budget of the process; a body that would exceed it is rejected at once, and none waits for memory
    reserve     a sixteenth, kept for requests of at most 64 KB
    share       at most a quarter for one caller (for its network until the caller is known); with an admin key up to three
                quarters while all others together hold at most a sixteenth
    strangers   at most half for all callers without an admin key together, if there are callers with one

The only body of a caller may exceed the share but not the total, because the largest allowed body must fit.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.errors import QueueFull

SMALL_BYTES = 64 * 1024
_RETRY_AFTER_S = 1.0


class Bucket(NamedTuple):
    """A holder of bytes: a caller or a network."""

    name: str
    known: bool
    """Whether the holder showed an admin key."""


class ByteBudget:
    """The budget of one process. `strangers_bytes`: the limit for all callers without an admin key together; None for none."""

    __slots__ = (
        "_by_bucket",
        "_strangers",
        "caller_bytes",
        "large_bytes",
        "lone_caller_bytes",
        "strangers_bytes",
        "total_bytes",
        "used_bytes",
    )

    def __init__(self, total_bytes: int, *, strangers_bytes: int | None = None) -> None:
        self.total_bytes = total_bytes
        self.large_bytes = total_bytes - total_bytes // 16
        """Maximum for all requests that are not small."""
        self.caller_bytes = total_bytes // 4
        self.lone_caller_bytes = total_bytes * 3 // 4
        self.strangers_bytes = strangers_bytes
        self.used_bytes = 0
        self._strangers = 0
        self._by_bucket: dict[Bucket, int] = {}

    def claim(self, bucket: Bucket) -> Claim:
        return Claim(self, bucket)

    def rejection(self, bucket: Bucket, more: int, own: int = 0) -> QueueFull | None:
        """The error if a body that holds `own` bytes may not take `more`; None if it may."""
        used = self.used_bytes + more
        if used > (self.total_bytes if own + more <= SMALL_BYTES else self.large_bytes):
            return _full("This instance has reached its memory limit for request bodies")
        held = self._by_bucket.get(bucket, 0)
        if held > own and held + more > self._share(bucket, held):
            return _full("Your other requests have reached the memory limit for the bodies of one caller")
        if self.strangers_bytes is not None and not bucket.known:
            strangers = self._strangers
            if strangers > own and strangers + more > self.strangers_bytes:
                return _full("Requests without an admin key have reached the memory limit for their bodies")
        return None

    def take(self, bucket: Bucket, more: int, own: int = 0) -> None:
        """Takes `more` bytes. Raises QueueFull and then takes nothing."""
        error = self.rejection(bucket, more, own)
        if error is not None:
            raise error
        self._add(bucket, more)

    def move(self, size_bytes: int, source: Bucket, target: Bucket) -> None:
        """Moves the bytes of one body to another bucket. Raises QueueFull and then moves nothing."""
        self.release(source, size_bytes)
        error = self.rejection(target, size_bytes)
        self._add(target if error is None else source, size_bytes)
        if error is not None:
            raise error

    def release(self, bucket: Bucket, size_bytes: int) -> None:
        self.used_bytes -= size_bytes
        left = self._by_bucket[bucket] - size_bytes
        if left:
            self._by_bucket[bucket] = left
        else:
            del self._by_bucket[bucket]
        if not bucket.known:
            self._strangers -= size_bytes

    def _share(self, bucket: Bucket, held: int) -> int:
        is_stranger = self.strangers_bytes is not None and not bucket.known
        if is_stranger or self.used_bytes - held > self.total_bytes - self.large_bytes:
            return self.caller_bytes
        return self.lone_caller_bytes

    def _add(self, bucket: Bucket, size_bytes: int) -> None:
        self.used_bytes += size_bytes
        self._by_bucket[bucket] = self._by_bucket.get(bucket, 0) + size_bytes
        if not bucket.known:
            self._strangers += size_bytes


class Claim:
    """The bytes of one request, from its first byte until the request has ended; or the waiting events of one stream."""

    __slots__ = ("_budget", "bucket", "held_bytes")

    def __init__(self, budget: ByteBudget, bucket: Bucket) -> None:
        self._budget = budget
        self.bucket = bucket
        self.held_bytes = 0

    def expect(self, size_bytes: int) -> None:
        """Raises QueueFull if a body of this size does not fit now. Takes nothing."""
        error = self._budget.rejection(self.bucket, size_bytes - self.held_bytes, self.held_bytes)
        if error is not None:
            raise error

    def grow(self, more: int) -> None:
        """Takes `more` bytes. Raises QueueFull."""
        if more > 0:
            self._budget.take(self.bucket, more, self.held_bytes)
            self.held_bytes += more

    def cover(self, size_bytes: int) -> None:
        """Takes bytes until at least `size_bytes` are held. Raises QueueFull."""
        self.grow(size_bytes - self.held_bytes)

    def move(self, bucket: Bucket) -> None:
        """Moves the bytes to another bucket. Raises QueueFull; then they stay in theirs."""
        if self.held_bytes and bucket != self.bucket:
            self._budget.move(self.held_bytes, self.bucket, bucket)
        self.bucket = bucket

    def release(self) -> None:
        """Releases all bytes. A second call does nothing."""
        held, self.held_bytes = self.held_bytes, 0
        if held:
            self._budget.release(self.bucket, held)


def _full(why: str) -> QueueFull:
    return QueueFull(f"{why}; retry later.", retry_after_s=_RETRY_AFTER_S)
