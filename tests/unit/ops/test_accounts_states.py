"""The states of accounts, as their records and the ledgers of their projects say."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from shared.accounts.records import AccountRecord, OutReason
from shared.accounts.sealing import DataKeys
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.limits import Limits
from shared.ledger.packing import pack
from shared.ledger.state import COLLECTION, Demand, QuotaSignal, RenewRequest, State
from shared.ledger.step import renew
from shared.ops.accounts_states import state_rows
from shared.ops.accounts_table import StateRow
from shared.secret import Secret
from shared.settings.settings import Settings
from shared.stores.memory import MemoryStore
from shared.stores.port import Change, Put, StoreError

GRID = Grid.of(60.0)
ENV = {"LEDGER_URL": "memory://", "GEMINI_API_KEY": "a-key-of-the-environment", "GEMINI_API_KEY_PROJECT": "one"}


async def put(store: MemoryStore, ledger_id: str, value: bytes) -> None:
    key = COLLECTION + ledger_id
    await store.transact([key], lambda _values, _now_ms: Change(None, {key: Put(value)}))


async def now_ms(store: MemoryStore) -> int:
    return int((await store.read("n/a")).sample.server_ms)


def spent(at_ms: int, model: str) -> State:
    """A ledger to which Gemini rejected the model for its day."""
    state, end_ms = State(GRID.window_ms), pacific_day(at_ms).end_ms
    signal = QuotaSignal(model, end_ms, kind="day", message="The day is spent.", sent_ms=at_ms)
    limits = Limits(300, requests_per_day=1_000)
    demands = {name: Demand(limits) for name in (model, "gemini-4-argon")}
    renew(state, RenewRequest("i", 1, at_ms, 15, 10_000, demands=demands, refusals=(signal,)), at_ms, GRID)
    return state


async def rows(store: MemoryStore, *records: AccountRecord, **env: str) -> list[StateRow]:
    return await state_rows(Settings.from_environment({**ENV, **env}), records, DataKeys([]), store)


async def test_accounts_without_a_ledger_are_available() -> None:
    stored = AccountRecord("a-1", "api_key", "1.x.y")
    assert await rows(MemoryStore(), stored) == [
        StateRow("gemini-api-key", None, "AVAILABLE"), StateRow("a-1", None, "AVAILABLE"),
    ]  # fmt: skip


async def test_records_say_what_a_person_and_google_decided() -> None:
    off = AccountRecord("a-1", "api_key", "1.x.y", enabled=False)
    failed = AccountRecord("a-2", "api_key", "1.x.y", out=OutReason("key_invalid", "API key not valid.", 7))
    assert [(row.state, row.since_ms, row.why) for row in (await rows(MemoryStore(), off, failed))[1:]] == [
        ("DISABLED", 0, "The operator disabled this account."), ("FAILED_INIT", 7, "key_invalid: API key not valid."),
    ]  # fmt: skip


async def test_account_that_no_data_key_decrypts_cannot_serve() -> None:
    """Without any key nothing is known: the instances may have it. A disabled account stays disabled."""
    keys = DataKeys([Secret(base64.b64encode(bytes([one]) * 32).decode()) for one in b"az"])
    records = [
        AccountRecord(name, "api_key", keys.seal(name, b"AQ.key"), enabled=name != "a-3") for name in ("a-1", "a-3")
    ]
    records.append(replace(records[0], id="a-2"))
    found = await state_rows(Settings.from_environment(ENV), records, keys, MemoryStore())
    assert {row.id: (row.state, row.why[:6]) for row in found[1:]} == {
        "a-1": ("AVAILABLE", ""), "a-2": ("FAILED_INIT", "sealed"), "a-3": ("DISABLED", "The op"),
    }  # fmt: skip


async def test_session_account_serves_only_if_allowed() -> None:
    stored = AccountRecord("a-1", "enterprise_session", "1.x.y", place={"team_id": "t", "csesidx": "1"})
    _, refused = await rows(MemoryStore(), stored)
    _, allowed = await rows(MemoryStore(), stored, ALLOW_SESSION_ACCOUNTS="1")
    assert (refused.state, "ALLOW_SESSION_ACCOUNTS" in refused.why, allowed.state) == ("FAILED_INIT", True, "AVAILABLE")


@pytest.mark.parametrize("merged", [False, True])
async def test_a_spent_day_is_shown_for_its_model_alone(merged: bool) -> None:
    """Also where the ledger was merged into another one."""
    store = MemoryStore()
    at_ms = await now_ms(store)
    await put(store, "another" if merged else "one", pack(spent(at_ms, "gemini-3.8-flash")))
    if merged:
        await put(store, "one", pack(State(GRID.window_ms, moved="another")))
    general, model = await rows(store)
    assert (general.model, general.state) == (None, "AVAILABLE")
    assert (model.model, model.state, model.until_ms) == (
        "gemini-3.8-flash", "FULLY_EXHAUSTED", pacific_day(at_ms).end_ms,
    )  # fmt: skip


async def test_a_damaged_ledger_is_an_error() -> None:
    store = MemoryStore()
    await put(store, "one", b"damaged")
    with pytest.raises(StoreError, match="The ledger one cannot be read"):
        await rows(store)
