"""How many bytes of requests a process holds at once, and who may hold how many of them. Pure.

A body costs memory from its first byte until its request has ended, long before anybody knows whether its key is valid. So
every body has a claim on one budget for all that time, and the claim grows as the body arrives: a client that declares
31 MB and sends nothing holds nothing.

    total       the process; what would exceed it is rejected at once, and nothing waits for bytes
    reserve     a sixteenth, kept for requests of at most 64 KB
    share       one caller (before the caller is known: its network) has at most a quarter; with an admin key up to three
                quarters, as long as the others hold next to nothing (a sixteenth)
    strangers   callers without an admin key together have at most half, where there is anybody else

A body that is alone in its share may exceed the share and not the total: the largest body must fit somewhere.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.errors import QueueFull

SMALL_BYTES = 64 * 1024
_RETRY_AFTER_S = 1.0


class Bucket(NamedTuple):
    """Who holds bytes."""

    name: str
    known: bool
    """Whether the holder showed an admin key."""


class ByteBudget:
    """The bytes of one process. `strangers_bytes`: what callers without an admin key have together; None: no such bound."""

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
        """What all but small requests may have together."""
        self.caller_bytes = total_bytes // 4
        self.lone_caller_bytes = total_bytes * 3 // 4
        self.strangers_bytes = strangers_bytes
        self.used_bytes = 0
        self._strangers = 0
        self._by_bucket: dict[Bucket, int] = {}

    def claim(self, bucket: Bucket) -> Claim:
        return Claim(self, bucket)

    def rejection(self, bucket: Bucket, more: int, own: int = 0) -> QueueFull | None:
        """The error with which `more` bytes of one body are rejected, of which `own` are held already."""
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
        """Raises QueueFull, and takes nothing then."""
        error = self.rejection(bucket, more, own)
        if error is not None:
            raise error
        self._add(bucket, more)

    def move(self, size_bytes: int, source: Bucket, target: Bucket) -> None:
        """Bytes of one body, to another bucket. Raises QueueFull, and moves nothing then."""
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
    """The bytes of one request, from the first one received until the request has ended."""

    __slots__ = ("_budget", "bucket", "held_bytes")

    def __init__(self, budget: ByteBudget, bucket: Bucket) -> None:
        self._budget = budget
        self.bucket = bucket
        self.held_bytes = 0

    def expect(self, size_bytes: int) -> None:
        """Raises QueueFull where a body of that size would not fit now. Nothing is taken for it yet."""
        error = self._budget.rejection(self.bucket, size_bytes - self.held_bytes, self.held_bytes)
        if error is not None:
            raise error

    def grow(self, more: int) -> None:
        """Raises QueueFull."""
        if more > 0:
            self._budget.take(self.bucket, more, self.held_bytes)
            self.held_bytes += more

    def cover(self, size_bytes: int) -> None:
        """Hold at least `size_bytes`. Raises QueueFull."""
        self.grow(size_bytes - self.held_bytes)

    def move(self, bucket: Bucket) -> None:
        """The bytes are another bucket's from now on. Raises QueueFull; they stay where they are then."""
        if self.held_bytes and bucket != self.bucket:
            self._budget.move(self.held_bytes, self.bucket, bucket)
        self.bucket = bucket

    def release(self) -> None:
        """All of it; what is released is not released again."""
        held, self.held_bytes = self.held_bytes, 0
        if held:
            self._budget.release(self.bucket, held)


def _full(why: str) -> QueueFull:
    return QueueFull(f"{why}; retry later.", retry_after_s=_RETRY_AFTER_S)
