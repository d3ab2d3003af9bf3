"""The ledger's document as bytes: it is read as it was written, and one of another version is left alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from shared.accounts.account import Account
from shared.admission.admission import Admission, AdmissionConfig
from shared.admission.config import ProcessConfig
from shared.clock import elapsed_s
from shared.errors import GatewayError
from shared.generation import Caller, Cost
from shared.ledger import packing
from shared.ledger.circuit import MAX_SENTENCE_CHARS, sentence
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.packing import READABLE, VERSION, UnreadableState, pack, unpack
from shared.ledger.state import (
    Circuit,
    ExternalUsage,
    InstanceLease,
    InstanceShare,
    Lowered,
    ModelState,
    SlotRange,
    State,
)
from shared.secret import Secret
from shared.stores.port import Change, Put
from shared.stores.sqlite import SqliteStore

NOW_MS = 1_800_000_000_000
SLOT = NOW_MS // 250
FLASH, ARGON = "gemini-3.8-flash", "gemini-4-argon"

RELEASES: tuple[tuple[str, int, frozenset[int]], ...] = (("0.1.0", VERSION, READABLE),)
"""Release -> the version of the document that it writes, and those that it reads; the last row is this checkout. A release
adds a row, and turns the names in the one before into numbers."""


def compatible(releases: tuple[tuple[str, int, frozenset[int]], ...]) -> bool:
    """Whether during each update, and after going back, either release reads what the other one writes."""
    pairs = pairwise(releases)
    return all(after[1] in before[2] and before[1] in after[2] for before, after in pairs)


def test_each_release_reads_what_its_neighbours_write() -> None:
    assert VERSION in READABLE
    assert compatible(RELEASES)


def test_writing_a_version_too_early_is_found() -> None:
    first = ("1", 4, frozenset({4}))
    assert not compatible((first, ("2", 5, frozenset({4, 5}))))
    assert compatible((first, ("2", 4, frozenset({4, 5})), ("3", 5, frozenset({4, 5}))))


def a_state() -> State:
    state = State(60_000, now_ms=NOW_MS, pressure_c=3, pressure_ms=NOW_MS - 700)
    lease = InstanceLease(
        renew=7, seen_ms=NOW_MS - 30, slots=4, cap=3, authority_ms=NOW_MS + 10_000, reuse_ms=NOW_MS + 130_000,
        want_slots=9, oldest_ms=NOW_MS - 2_500, callers=2, concurrency=15,
    )  # fmt: skip
    bookings = {SlotRange(SLOT, SLOT + 20): Cost(5, 600, 0), SlotRange(SLOT + 40, SLOT + 43): Cost(1, 90, 1)}
    lease.shares[FLASH] = InstanceShare(Limits(300, 1_000_000, None, 1_000), bookings, Cost(2, 200, 0))
    gone = InstanceLease(renew=1, seen_ms=NOW_MS - 9_000, authority_ms=NOW_MS - 9_000, reuse_ms=NOW_MS - 9_000)
    left = InstanceLease(renew=2, slots=2, reuse_ms=NOW_MS + 7_000, ends_ms=(NOW_MS + 400, NOW_MS + 7_000))
    state.leases = {"a" * 32: lease, "b" * 32: gone, "d" * 32: left}
    state.sections[FLASH] = ModelState(
        ring={SLOT - 200: Cost(3, 400, 0), SLOT - 1: Cost(1, 10, 2), SLOT + 1: Cost(1, 50, 0)},
        days={738_000: 41, 738_001: 2}, paced_ms=NOW_MS - 1_000, debt_tokens=17,
    )  # fmt: skip
    state.sections[ARGON] = ModelState(ring={SLOT - 3: Cost(1, 5, 0)}, days={738_001: 1})
    return state


def test_a_state_survives_packing() -> None:
    state = a_state()
    assert unpack(pack(state)) == state
    state.accepted = True
    assert unpack(pack(state)) == state


def test_circuits_and_lowered_limits_survive_packing() -> None:
    state = a_state()
    section = state.sections[FLASH]
    section.circuit = Circuit(
        "zero", "Quota exceeded, limit: 0", NOW_MS + 20_000, 20_000, NOW_MS - 5, "c" * 32, FLASH, NOW_MS + 30_000
    )
    section.circuit.since_ms, section.circuit.rejections = NOW_MS - 70_000, 3
    state.spend = Circuit("spend", "", NOW_MS + 1, 1, since_ms=NOW_MS - 9)
    section.lowered = {
        0: Lowered(250, "limit: 250", 600_000, NOW_MS + 9, 251, NOW_MS + 10, NOW_MS + 70_000),
        3: Lowered(1_000),
    }
    section.outside = {0: ExternalUsage(45, NOW_MS - 90_000, NOW_MS - 5), 1: ExternalUsage(1, NOW_MS, NOW_MS)}
    assert unpack(pack(state)) == state


def test_documents_without_additions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier ones have no `since_ms` and no `rejections`."""
    state = a_state()
    state.sections[FLASH].circuit = Circuit("rate", "", NOW_MS + 20_000, 20_000, since_ms=NOW_MS, rejections=2)
    monkeypatch.setattr(packing, "_pack_additions", lambda column, state, index: None)
    circuit = unpack(pack(state)).sections[FLASH].circuit
    assert circuit == Circuit("rate", "", NOW_MS + 20_000, 20_000)


def test_unknown_additions_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_pack_additions", lambda column, state, index: column.extend((99, 2, 7, 7)))
    assert unpack(pack(a_state())) == a_state()


def test_no_sentence_can_damage_the_document() -> None:
    """A line break would end an entry of the table of names, and a surrogate half has no UTF-8."""
    state = a_state()
    state.sections[FLASH].lowered[0] = Lowered(1, sentence("a\nb\r\u2028c \ud83d" + "x" * 1_000))
    assert unpack(pack(state)) == state
    assert state.sections[FLASH].lowered[0].message.startswith("a b c ?xxx")
    assert len(state.sections[FLASH].lowered[0].message) == MAX_SENTENCE_CHARS


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4, 255])
def test_another_version_is_refused_with_the_reason(version: int) -> None:
    blob = b"GL" + bytes([version]) + pack(a_state())[3:]
    with pytest.raises(UnreadableState, match="written by another program or by another version"):
        unpack(blob)


async def test_a_document_of_another_version_is_left_alone(tmp_path: Path) -> None:
    later = b"GL\x06" + pack(a_state())[3:]
    store = SqliteStore(str(tmp_path / "ledger.db"))
    await store.transact(["ledger/p"], lambda values, now_ms: Change(None, {"ledger/p": Put(later)}))
    gate = Admission(store, ProcessConfig("i" * 32, Grid.of(60), tau_s=5.0), AdmissionConfig(queue_timeout_s=0.5))
    account = Account("p", "p", Secret("k"), 5, Limits(requests=10))
    with pytest.raises(GatewayError) as refused:
        await gate.acquire([account], "m", Cost(1), elapsed_s() + 0.5, Caller("c", "admin"))
    assert refused.value.status == 503
    await gate.aclose()
    assert (await store.read("ledger/p")).value == later
    await store.aclose()
