"""How faults are asked for: header, prompt and standing orders."""

from __future__ import annotations

import pytest

from shared.emulator.faults import (
    KINDS,
    BadDirective,
    Directives,
    Fault,
    Faults,
    from_header,
    from_prompt,
    parse_fault,
    without_directives,
)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_can_be_named_counted_and_timed(kind: str) -> None:
    assert parse_fault(kind) == Fault(kind)
    assert parse_fault(f"{kind}x3") == Fault(kind, times=3)
    assert parse_fault(f"{kind}@2.5x3") == Fault(kind, times=3, seconds=2.5)


def test_a_prompt_holds_directives_anywhere() -> None:
    prompt = "Say [[fault:503x2]] hi [[latency:20]][[words:7]]"
    assert from_prompt(prompt) == Directives(Fault("503", 2), 0.02, 7)
    assert without_directives(prompt) == "Say  hi"
    assert from_prompt("an [[array]] of [[x:1]]") == Directives()


def test_a_header_is_a_list_in_which_a_bare_word_is_a_fault() -> None:
    assert from_header("503x2, latency:2000") == Directives(Fault("503", 2), 2.0)
    assert from_header(None) == from_header("") == Directives()


@pytest.mark.parametrize("value", ["teapot", "503x", "latency:soon", "latency:99999999", "colour:red", "words:-1"])
def test_what_is_not_known_is_refused(value: str) -> None:
    with pytest.raises(BadDirective):
        from_header(value)


def test_a_counted_fault_fires_so_often_for_each_prompt() -> None:
    faults, twice = Faults(), Fault("503", times=2)
    fired = [faults.choose(twice, "one", "k", "m") is not None for _ in range(4)]
    assert fired == [True, True, False, False]
    assert faults.choose(twice, "another", "k", "m") is twice


def test_order_applies_to_matching_requests_only() -> None:
    faults = Faults()
    faults.order("500", 2, key="a")
    faults.order("503", 1, model="m2")
    assert faults.choose(None, "", "b", "m1") is None
    assert faults.choose(None, "", "b", "m2") == Fault("503")
    assert [faults.choose(None, "", "a", "m2") for _ in range(3)] == [Fault("500"), Fault("500"), None]
    assert faults.pending() == []


def test_what_a_request_asks_for_itself_does_not_use_up_an_order() -> None:
    faults = Faults()
    faults.order("500")
    assert faults.choose(Fault("504"), "", "k", "m") == Fault("504")
    assert faults.choose(None, "", "k", "m") == Fault("500")


def test_clearing_forgets_orders_and_counts() -> None:
    faults, once = Faults(), Fault("503", times=1)
    faults.order("500")
    faults.choose(once, "p", "k", "m")
    faults.clear()
    assert faults.pending() == []
    assert faults.choose(once, "p", "k", "m") is once
