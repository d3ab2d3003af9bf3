"""The clock of an SQLite file: one for all processes of a boot, and never back."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.stores import sqlite_file
from shared.stores.port import Change, Put
from shared.stores.sqlite import SqliteStore
from shared.stores.sqlite_file import clock_offset_ms

BOOTS = st.sampled_from(["", "boot-1", "boot-2"])
TIMES = st.floats(0, 4e12)


def test_a_new_file_begins_at_the_walls_time() -> None:
    assert clock_offset_ms(None, "boot", 5_000, 1_000_000) + 5_000 == 1_000_000


@given(TIMES, TIMES, TIMES)
def test_clock_cannot_be_set_during_a_boot(offset: float, elapsed: float, wall: float) -> None:
    assert clock_offset_ms(("boot", offset, 0), "boot", elapsed, wall) == offset


@given(TIMES, st.integers(0, 10**12), TIMES, TIMES)
def test_clock_continues_after_a_reboot(offset: float, seen: int, elapsed: float, wall: float) -> None:
    """From the wall clock's time, but never before the last time seen."""
    now = elapsed + clock_offset_ms(("boot-1", offset, seen), "boot-2", elapsed, wall)
    assert now == pytest.approx(max(wall, seen), abs=1e-2)


@given(BOOTS, BOOTS, TIMES, TIMES, TIMES, TIMES)
def test_it_never_goes_back(stored: str, boot: str, offset: float, elapsed: float, later: float, wall: float) -> None:
    """`later`: elapsed time at the next opening; within one boot it has grown."""
    seen = elapsed + offset
    if stored == boot != "":
        later += elapsed
    assert later + clock_offset_ms((stored, offset, int(seen)), boot, later, wall) >= int(seen) - 1e-2


def test_reboot_is_detected_by_elapsed_time() -> None:
    stored = ("", 1_000.0, 6_000)
    assert clock_offset_ms(stored, "", 5_500, 9e9) == 1_000.0
    assert clock_offset_ms(stored, "", 10, 9e9) == 9e9 - 10


async def now_ms(path: Path) -> float:
    store = SqliteStore(path)
    outcome = await store.transact(["n/a"], lambda _values, _now: Change(None, {"n/a": Put(b"x")}))
    await store.aclose()
    return outcome.samples[-1].server_ms


async def test_setting_the_machines_clock_does_not_move_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    first = await now_ms(path)
    assert abs(first - time.time() * 1000) < 5_000
    for wall_s in (0.0, 9e9):
        monkeypatch.setattr(sqlite_file.time, "time", lambda wall_s=wall_s: wall_s)
        assert 0 < await now_ms(path) - first < 10_000


@pytest.mark.parametrize("wall_s", [0.0, 2_000_000_000.0])
async def test_a_new_boot_continues_the_time_of_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wall_s: float
) -> None:
    path = tmp_path / "store.db"
    before = await now_ms(path)
    monkeypatch.setattr(sqlite_file, "boot_id", lambda: "the next one")
    monkeypatch.setattr(sqlite_file.time, "time", lambda: wall_s)
    after = await now_ms(path)
    expected = max(before, wall_s * 1000)
    assert expected - 1 <= after < expected + 10_000
    again = await now_ms(path)
    assert after < again < after + 10_000


async def test_the_last_time_seen_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    last = await now_ms(path)
    with sqlite3.connect(path) as other:
        ((boot_id, seen_ms),) = other.execute("SELECT boot_id, seen_ms FROM clock").fetchall()
    assert seen_ms == int(last)
    assert boot_id == sqlite_file.boot_id()
