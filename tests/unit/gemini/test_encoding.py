"""What an encoded body holds in memory while its request waits."""

from __future__ import annotations

import tracemalloc

from shared.gemini.encoding import encode

TEXT = "x" * 2_000
BODIES = 100


def test_encoded_bodies_hold_no_spare_room() -> None:
    """orjson reserves eight bytes for each, in case all have to be escaped."""
    body = {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]}
    encode(body)
    tracemalloc.start()
    try:
        held = [encode(body) for _ in range(BODIES)]
        size_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size_bytes < 1.5 * sum(len(one.data) for one in held)
