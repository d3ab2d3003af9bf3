"""The last known version of Firestore's documents, so that a transaction can start with its commit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shared.clock import elapsed_s
from shared.stores.firestore_rpc import Doc
from shared.stores.port import TimeSample

_MAX_VALUE_BYTES = 64 * 1024
_MAX_BYTES = 8 * 1024 * 1024
_MAX_DOCS = 4096
_DRIFT = 500e-6
"""Upper bound of the drift between elapsed time and the server's clock."""


class Snapshot(NamedTuple):
    """Documents, and a time at which the server had these versions."""

    docs: dict[str, Doc]
    sample: TimeSample

    def values(self) -> dict[str, bytes | None]:
        return {key: None if _expired(doc, self.sample.server_ms) else doc.value for key, doc in self.docs.items()}


class DocumentCache:
    """A bounded LRU cache. A stale entry is harmless, because each commit names the versions that it depends on."""

    def __init__(self) -> None:
        self._documents: OrderedDict[str, tuple[Doc, TimeSample]] = OrderedDict()
        self._bytes = 0

    def get(self, keys: Sequence[str]) -> Snapshot | None:
        """The documents, with the oldest of their samples. None if one is unknown or may have expired since: an expired
        document keeps its version, so the commit would not notice."""
        found = {key: self._documents[key] for key in keys if key in self._documents}
        if len(found) < len(keys):
            return None
        now_s = elapsed_s()
        for doc, sample in found.values():
            if _expired(doc, sample.server_ms + (now_s - sample.sent_s) * 1000 * (1 + _DRIFT)):
                return None
        oldest = min((sample for _, sample in found.values()), key=lambda sample: sample.server_ms)
        return Snapshot({key: doc for key, (doc, _) in found.items()}, oldest)

    def put(self, snapshot: Snapshot) -> None:
        for key, doc in snapshot.docs.items():
            known = self._documents.get(key)
            if known is not None and known[1].server_ms > snapshot.sample.server_ms:
                continue
            self.discard((key,))
            if _size_bytes(doc) <= _MAX_VALUE_BYTES:
                self._documents[key] = (doc, snapshot.sample)
                self._bytes += _size_bytes(doc)
        while self._bytes > _MAX_BYTES or len(self._documents) > _MAX_DOCS:
            self.discard((next(iter(self._documents)),))

    def discard(self, keys: Iterable[str]) -> None:
        for key in keys:
            known = self._documents.pop(key, None)
            if known is not None:
                self._bytes -= _size_bytes(known[0])


def _expired(doc: Doc, now_ms: float) -> bool:
    return doc.expires_at_ms is not None and doc.expires_at_ms <= now_ms


def _size_bytes(doc: Doc) -> int:
    return len(doc.value or b"")
