"""The ledger's document as bytes: what was written by the release before is read as it was, what is newer is left alone."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from shared.accounts.account import Account
from shared.admission.admission import Admission, AdmissionConfig
from shared.admission.agent import AgentConfig
from shared.clock import elapsed_s
from shared.errors import GatewayError
from shared.generation import Caller, Cost
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.packing import UnreadableState, pack, unpack
from shared.ledger.state import Lease, Outside, Section, Share, State, Validity
from shared.secret import Secret
from shared.stores.port import Change, Put
from shared.stores.sqlite import SqliteStore

NOW_MS = 1_800_000_000_000
SLOT = NOW_MS // 250
FLASH, ARGON = "gemini-3.8-flash", "gemini-4-argon"

VERSION_1 = bytes.fromhex(
    "474c0178014b646060482400b8920800aef4d4dcccbc4c5d633d0bddb49cc4e20c9880896e62517a7e5ec22ba02d20101023b19891818119"
    "c26370f185f0193cd4d702851998a0e2308a1dca78f41f0258a07c987e017588c085df20dd0c0c9c102e838d1bc45c9879fc5071882a843d"
    "3a50010727880aa835ff5f402d80e93f01d50fa360e230be0894c10aa523d0146840c561ee86b9230a2a0ee3a3d337ee405c045506a760e2"
    "301a2e81661eba38cc59305ac207124e0af320f401b12e70fc084235fe82d2b07041a761feb1804ac0f813601e41d30f13e6828ac3dc0113"
    "87d146507918055377c1891b2ca40995b808e5c3e461f6c3f455d840d3174c004aa3fb039d0f73c75fa8048c0f8b5f98713071983b607c00"
    "16b1b2a6"
)
"""Written by the last release whose packing had version 1."""


def state_of_version_1() -> State:
    state = State(60_000, now_ms=NOW_MS, pressure_c=3, pressure_ms=NOW_MS - 700)
    lease = Lease(
        renew=7, seen_ms=NOW_MS - 30, slots=4, cap=3, authority_ms=NOW_MS + 10_000, reuse_ms=NOW_MS + 130_000,
        want_slots=9, oldest_ms=NOW_MS - 2_500, callers=2, concurrency=15,
    )  # fmt: skip
    bookings = {Validity(SLOT, SLOT + 20): Cost(5, 600, 0), Validity(SLOT + 40, SLOT + 43): Cost(1, 90, 1)}
    lease.shares[FLASH] = Share(Limits(300, 1_000_000, None, 1_000), bookings, Cost(2, 200, 0))
    gone = Lease(renew=1, seen_ms=NOW_MS - 9_000, authority_ms=NOW_MS - 9_000, reuse_ms=NOW_MS - 9_000)
    state.leases = {"a" * 32: lease, "b" * 32: gone}
    state.sections[FLASH] = Section(
        ring={SLOT - 200: Cost(3, 400, 0), SLOT - 1: Cost(1, 10, 2), SLOT + 1: Cost(1, 50, 0)},
        days={738_000: 41, 738_001: 2}, paced_ms=NOW_MS - 1_000, cool_ms=NOW_MS + 20_000,
        learned=Limits(requests=250), learned_until_ms=NOW_MS + 3_000_000, debt_tokens=17,
    )  # fmt: skip
    state.sections[ARGON] = Section(ring={SLOT - 3: Cost(1, 5, 0)}, days={738_001: 1})
    return state


def test_version_1_is_read_exactly() -> None:
    assert unpack(VERSION_1) == state_of_version_1(), "of a cool-down that is over nothing is left"


def test_what_was_read_is_written_as_version_2() -> None:
    blob = pack(unpack(VERSION_1))
    assert blob[:3] == b"GL\x02"
    assert unpack(blob) == state_of_version_1()


def test_that_a_key_was_accepted_survives_packing_and_an_older_release_reads_the_rest() -> None:
    state = state_of_version_1()
    plain = pack(state)
    state.accepted = True
    assert unpack(pack(state)) == state
    body, known = (zlib.decompress(blob[3:]) for blob in (pack(state), plain))
    assert body.startswith(known), "it is at the end, which that release does not look at"


def test_what_refusals_taught_survives_packing() -> None:
    state = state_of_version_1()
    section = state.sections[FLASH]
    section.cool_length_ms, section.prober, section.probe_ms = 20_000, "c" * 32, NOW_MS + 30_000
    section.outside = {0: Outside(45, NOW_MS - 90_000, NOW_MS - 5), 1: Outside(1, NOW_MS, NOW_MS)}
    assert unpack(pack(state)) == state


@pytest.mark.parametrize("version", [0, 3, 255])
def test_another_version_is_refused_with_the_reason(version: int) -> None:
    blob = b"GL" + bytes([version]) + pack(state_of_version_1())[3:]
    with pytest.raises(UnreadableState, match="written by another program or by a later version"):
        unpack(blob)


async def test_an_instance_that_meets_a_later_version_refuses_and_leaves_the_document_as_it_is(tmp_path: Path) -> None:
    later = b"GL\x03" + pack(state_of_version_1())[3:]
    store = SqliteStore(str(tmp_path / "ledger.db"))
    await store.transact(["ledger/p"], lambda values, now_ms: Change(None, {"ledger/p": Put(later)}))
    gate = Admission(store, AgentConfig("i" * 32, Grid.of(60), tau_s=5.0), AdmissionConfig(queue_timeout_s=0.5))
    account = Account("p", "p", Secret("k"), 5, Limits(requests=10))
    with pytest.raises(GatewayError) as refused:
        await gate.acquire([account], "m", Cost(1), elapsed_s() + 0.5, Caller("c", "admin"))
    assert refused.value.status == 503
    await gate.aclose()
    assert (await store.read("ledger/p")).value == later
    await store.aclose()
