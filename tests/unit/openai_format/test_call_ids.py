"""The ids of tool calls: what survives when a client cuts them."""

from __future__ import annotations

import re
from base64 import b64encode
from random import Random
from zlib import crc32

import pytest

from shared.openai_format.call_ids import MAX_ID_CHARS, RANDOM_BYTES, key_of, new_call_id, signature_in

RANDOM = "0f" * RANDOM_BYTES
SIGNATURE = b64encode(Random(1).randbytes(301)).decode()
"""The length is no multiple of three, so that the base64 is padded."""
LONG = b64encode(Random(2).randbytes(3000)).decode()


@pytest.mark.parametrize("length", range(1, 40))
def test_a_signature_returns_unchanged(length: int) -> None:
    signature = b64encode(Random(length).randbytes(length)).decode()
    call_id = new_call_id(signature, RANDOM)
    assert signature_in(call_id) == signature
    assert key_of(call_id) == f"call_{RANDOM}"


def test_an_id_has_only_widely_accepted_characters() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]+", new_call_id(SIGNATURE, RANDOM))


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(lambda one: one[:64], id="64"),
        pytest.param(lambda one: one[:40], id="40"),
        pytest.param(lambda one: one[:29], id="29"),
        pytest.param(lambda one: f"{one[:55]}_9e107d9d", id="55 and a hash"),
        pytest.param(lambda one: one[:32] + one[-32:], id="the first 32 and the last 32"),
    ],
)
def test_a_cut_id_keeps_its_key_and_no_signature(cut: object) -> None:
    assert callable(cut)
    call_id = cut(new_call_id(SIGNATURE, RANDOM))
    assert key_of(call_id) == f"call_{RANDOM}"
    assert signature_in(call_id) is None


def test_every_cut_of_a_signature_is_noticed() -> None:
    call_id = new_call_id(SIGNATURE, RANDOM)
    assert [length for length in range(len(call_id)) if signature_in(call_id[:length]) is not None] == []


def test_a_prefix_does_not_hide_an_id() -> None:
    """Some clients put a type before the id."""
    call_id = f"fc_{new_call_id(SIGNATURE, RANDOM)}"
    assert key_of(call_id) == f"call_{RANDOM}"
    assert signature_in(call_id) == SIGNATURE


def test_a_forged_checksum_raises_nothing() -> None:
    assert signature_in(f"call_{RANDOM}_{crc32(b'A'):08x}A") is None


@pytest.mark.parametrize("signature", [None, ""])
def test_an_id_shows_that_a_call_has_no_signature(signature: str | None) -> None:
    """So that it is not looked up."""
    call_id = new_call_id(signature, RANDOM)
    assert len(call_id) == len(f"call_{RANDOM}")
    assert key_of(call_id) is None


@pytest.mark.parametrize("signature", [LONG, "not base64", "YQ", "YR==", "skip_thought_signature_validator"])
def test_what_an_id_cannot_hold_is_left_out(signature: str) -> None:
    assert new_call_id(signature, RANDOM) == f"call_{RANDOM}"


def test_the_longest_id_holds_its_signature() -> None:
    fits, too_long = ("A" * length for length in (984, 988))
    assert len(new_call_id(fits, RANDOM)) <= MAX_ID_CHARS
    assert signature_in(new_call_id(fits, RANDOM)) == fits
    assert new_call_id(too_long, RANDOM) == f"call_{RANDOM}"


@pytest.mark.parametrize(
    "call_id",
    [
        "",
        "call_abc",
        f"call_{RANDOM[:-1]}",
        f"call_{RANDOM}0",
        f"call_{RANDOM.upper()}",
        "call_65OReGAIB0M4612fiyF6YMbI",
        "x" * 40 + f"call_{RANDOM}",
    ],
)
def test_a_foreign_id_has_no_key(call_id: str) -> None:
    assert key_of(call_id) is None
    assert signature_in(call_id) is None
