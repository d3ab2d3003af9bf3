"""An upstream for each kind of account, made at its first use."""

from __future__ import annotations

from typing import Any

import pytest

from shared.gemini.upstream import Upstreams


class FakeUpstream:
    closed = False

    async def aclose(self) -> None:
        self.closed = True


async def test_an_upstream_is_made_once_at_its_first_use() -> None:
    made: list[Any] = []

    def maker() -> Any:
        made.append(FakeUpstream())
        return made[-1]

    first: Any = FakeUpstream()
    upstreams = Upstreams({"api_key": first}, {"vertex": maker, "enterprise": maker})
    assert upstreams["api_key"] is first
    assert not made
    assert upstreams["vertex"] is upstreams["vertex"] is made[0]
    await upstreams.aclose()
    assert first.closed
    assert [upstream.closed for upstream in made] == [True]


def test_a_kind_without_an_upstream_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Upstreams({}, {})["vertex"]
