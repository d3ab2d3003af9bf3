"""What is remembered of Firestore's documents: the latest of each, within bounds, and nothing that may have expired."""

from __future__ import annotations

from shared.clock import elapsed_s
from shared.stores.firestore_rpc import Doc
from shared.stores.last_seen import LastSeen, Seen
from shared.stores.port import TimeSample


def seen(docs: dict[str, Doc], server_ms: float = 1_000_000.0, ago_s: float = 0.0) -> Seen:
    now_s = elapsed_s() - ago_s
    return Seen(docs, TimeSample(server_ms, now_s, now_s))


def test_all_keys_must_have_been_seen() -> None:
    memory = LastSeen()
    memory.note(seen({"n/a": Doc(b"x", "v1"), "n/b": Doc()}))
    found = memory.of(("n/b", "n/a"))
    assert found is not None
    assert found.values() == {"n/b": None, "n/a": b"x"}
    assert memory.of(("n/a", "n/c")) is None
    memory.forget(["n/a", "n/unknown"])
    assert memory.of(("n/a",)) is None


def test_the_moment_is_the_oldest_of_them() -> None:
    memory = LastSeen()
    memory.note(seen({"n/a": Doc(b"x", "v1")}, 2_000.0))
    memory.note(seen({"n/b": Doc(b"y", "v1")}, 1_000.0))
    found = memory.of(("n/a", "n/b"))
    assert found is not None
    assert found.sample.server_ms == 1_000.0


def test_an_answer_that_was_overtaken_does_not_replace_a_later_one() -> None:
    memory = LastSeen()
    memory.note(seen({"n/a": Doc(b"new", "v2")}, 2_000.0))
    memory.note(seen({"n/a": Doc(b"old", "v1")}, 1_000.0))
    found = memory.of(("n/a",))
    assert found is not None
    assert found.values() == {"n/a": b"new"}


def test_what_may_have_expired_meanwhile_is_not_offered() -> None:
    memory = LastSeen()
    docs = {"n/a": Doc(b"x", "v1", expires_at_ms=1_010_000)}
    memory.note(seen(docs, 1_000_000.0, ago_s=9.9))
    assert memory.of(("n/a",)) is not None
    memory.note(seen(docs, 1_000_000.0, ago_s=9.999))
    assert memory.of(("n/a",)) is None, "within the drift of two clocks"


def test_it_has_bounds() -> None:
    memory = LastSeen()
    memory.note(seen({"n/large": Doc(b"x" * 65_537, "v1")}))
    assert memory.of(("n/large",)) is None
    for i in range(200):
        memory.note(seen({f"n/{i}": Doc(b"x" * 65_536, "v1")}))
    kept = [i for i in range(200) if memory.of((f"n/{i}",)) is not None]
    assert kept == list(range(72, 200)), "8 MiB, the latest"
    for i in range(5_000):
        memory.note(seen({f"m/{i}": Doc()}))
    assert sum(memory.of((f"m/{i}",)) is not None for i in range(5_000)) == 4_096


def test_a_value_that_grew_too_large_is_forgotten_not_left_stale() -> None:
    memory = LastSeen()
    memory.note(seen({"n/a": Doc(b"x", "v1")}, 1_000.0))
    memory.note(seen({"n/a": Doc(b"x" * 70_000, "v2")}, 2_000.0))
    assert memory.of(("n/a",)) is None
