"""What is remembered of Firestore's documents: the latest of each, within bounds, and nothing that may have expired."""

from __future__ import annotations

from shared.clock import elapsed_s
from shared.stores.document_cache import DocumentCache, Snapshot
from shared.stores.firestore_rpc import Doc
from shared.stores.port import TimeSample


def seen(docs: dict[str, Doc], server_ms: float = 1_000_000.0, ago_s: float = 0.0) -> Snapshot:
    now_s = elapsed_s() - ago_s
    return Snapshot(docs, TimeSample(server_ms, now_s, now_s))


def test_all_keys_must_have_been_seen() -> None:
    cache = DocumentCache()
    cache.put(seen({"n/a": Doc(b"x", "v1"), "n/b": Doc()}))
    found = cache.get(("n/b", "n/a"))
    assert found is not None
    assert found.values() == {"n/b": None, "n/a": b"x"}
    assert cache.get(("n/a", "n/c")) is None
    cache.discard(["n/a", "n/unknown"])
    assert cache.get(("n/a",)) is None


def test_the_moment_is_the_oldest_of_them() -> None:
    cache = DocumentCache()
    cache.put(seen({"n/a": Doc(b"x", "v1")}, 2_000.0))
    cache.put(seen({"n/b": Doc(b"y", "v1")}, 1_000.0))
    found = cache.get(("n/a", "n/b"))
    assert found is not None
    assert found.sample.server_ms == 1_000.0


def test_overtaken_answer_does_not_replace_a_later_one() -> None:
    cache = DocumentCache()
    cache.put(seen({"n/a": Doc(b"new", "v2")}, 2_000.0))
    cache.put(seen({"n/a": Doc(b"old", "v1")}, 1_000.0))
    found = cache.get(("n/a",))
    assert found is not None
    assert found.values() == {"n/a": b"new"}


def test_what_may_have_expired_meanwhile_is_not_offered() -> None:
    cache = DocumentCache()
    docs = {"n/a": Doc(b"x", "v1", expires_at_ms=1_010_000)}
    cache.put(seen(docs, 1_000_000.0, ago_s=9.9))
    assert cache.get(("n/a",)) is not None
    cache.put(seen(docs, 1_000_000.0, ago_s=9.999))
    assert cache.get(("n/a",)) is None, "within the drift of two clocks"


def test_it_has_bounds() -> None:
    cache = DocumentCache()
    cache.put(seen({"n/large": Doc(b"x" * 65_537, "v1")}))
    assert cache.get(("n/large",)) is None
    for i in range(200):
        cache.put(seen({f"n/{i}": Doc(b"x" * 65_536, "v1")}))
    kept = [i for i in range(200) if cache.get((f"n/{i}",)) is not None]
    assert kept == list(range(72, 200)), "8 MiB, the latest"
    for i in range(5_000):
        cache.put(seen({f"m/{i}": Doc()}))
    assert sum(cache.get((f"m/{i}",)) is not None for i in range(5_000)) == 4_096


def test_a_value_that_grew_too_large_is_forgotten_not_left_stale() -> None:
    cache = DocumentCache()
    cache.put(seen({"n/a": Doc(b"x", "v1")}, 1_000.0))
    cache.put(seen({"n/a": Doc(b"x" * 70_000, "v2")}, 2_000.0))
    assert cache.get(("n/a",)) is None
