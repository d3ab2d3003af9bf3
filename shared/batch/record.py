"""What the store keeps about a batch: how far it is, and which request carries it on. Pure.

    open ---- take ----> running ---- release, or its lease expires ----> open
                            |  add: a segment of results, only with the current epoch
                            +--- all items have a result ---> done

Each `take` begins an epoch. A carrier that was frozen and wakes up later finds another epoch, and adds nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import orjson

from shared.media.names import new_name

LEASE_MS = 15_000
TTL_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class BatchRecord:
    base: str
    """32 random hexadecimal digits, from which the names of its objects follow."""
    digest: str
    """Of the body that made it."""
    total: int
    created_ms: int
    expires_ms: int
    options: dict[str, Any] = field(default_factory=dict)
    items_bytes: int = 0
    """The size of the object with the items."""
    epoch: int = 0
    lease_until_ms: int = 0
    failed: int = 0
    segments: list[list[int]] = field(default_factory=list)
    """Of the stored results, in their order: the epoch that stored a segment, and how many results it has."""
    done: str = ""
    """A bit for each item that has a result, in base64."""

    @property
    def done_count(self) -> int:
        return sum(count for _, count in self.segments)

    def state(self, now_ms: int) -> Literal["open", "running", "done"]:
        if self.done_count >= self.total:
            return "done"
        return "running" if self.lease_until_ms > now_ms else "open"

    def done_indexes(self) -> set[int]:
        bits = base64.b64decode(self.done)
        return {index for index in range(self.total) if index // 8 < len(bits) and bits[index // 8] >> (index % 8) & 1}

    def taken(self, now_ms: int) -> BatchRecord:
        """With a new epoch, and a lease of it."""
        return replace(self, epoch=self.epoch + 1, lease_until_ms=now_ms + LEASE_MS)

    def renewed(self, now_ms: int) -> BatchRecord:
        return replace(self, lease_until_ms=now_ms + LEASE_MS)

    def released(self) -> BatchRecord:
        return replace(self, lease_until_ms=0)

    def with_segment(self, indexes: Iterable[int], failed: int, now_ms: int) -> BatchRecord:
        """With a segment of results for these items, and a renewed lease."""
        bits = bytearray(base64.b64decode(self.done).ljust(-(-self.total // 8), b"\0"))
        count = 0
        for index in indexes:
            bits[index // 8] |= 1 << index % 8
            count += 1
        return replace(
            self.renewed(now_ms),
            segments=[*self.segments, [self.epoch, count]],
            failed=self.failed + failed,
            done=base64.b64encode(bits).decode(),
        )

    def pack(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def unpack(cls, value: bytes) -> BatchRecord:
        return cls(**orjson.loads(value))

    def items_object(self) -> str:
        return self._name("items")

    def segment_object(self, number: int) -> str:
        """Of a stored segment, or of the next one with the current epoch."""
        epoch = self.segments[number][0] if number < len(self.segments) else self.epoch
        return self._name(f"{epoch} {number}")

    def _name(self, what: str) -> str:
        """Begins with the time of the expiry, by which expired objects are found."""
        digits = hashlib.blake2b(f"{self.base} {what}".encode(), digest_size=16).hexdigest()
        return new_name(self.expires_ms, digits, "")
