"""The headers of a generated answer."""

from __future__ import annotations

import pytest

from shared.generation import UNKNOWN_USAGE, Reply, Timeline
from shared.http.response import generation_headers


@pytest.mark.parametrize(("replaced", "value"), [([False], None), ([True], b"replaced"), ([True, False], b"replaced")])
def test_replaced_thought_signatures_are_reported(replaced: list[bool], value: bytes | None) -> None:
    """Once for the request, in whichever of its generations it happened."""
    timeline = Timeline()
    for one in replaced:
        timeline.answered(Reply({}, "m", "m", "a", UNKNOWN_USAGE, signatures_replaced=one))
    assert dict(generation_headers(timeline)).get(b"x-thought-signatures") == value
