"""The states of a manager's keys: views of the ledger and of what Gemini rejected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.accounts.account import COOLDOWN_LEDGER, Account
from shared.accounts.ledgers import Ledgers
from shared.accounts.states import ANY_MODEL, AccountState, Facts, Name, Out, states
from shared.ledger.state import State
from shared.stores.port import StoreError

if TYPE_CHECKING:
    from shared.engine import Engine

log = logging.getLogger("gemini_parallel")
ORDER: tuple[Name, ...] = (
    "AVAILABLE", "COOLDOWN", "TEMPORARILY_EXHAUSTED", "FULLY_EXHAUSTED", "FAILED_INIT", "DISABLED"
)  # fmt: skip
"""From the best to the worst."""
WATCH_S = 2.0
"""How often the states are compared while prompts are under way."""

Summary = dict[str, dict[str, Any]]


async def summary(engine: Engine, names: Mapping[str, str], failed: Mapping[str, str]) -> Summary:
    """By the variable's name. `names`: the variable of each account's id. `failed`: why a variable's value cannot be a key.
    Raises StoreError."""
    ledgers = Ledgers(engine.store)
    found = {
        names[account.id]: await _of_account(engine, ledgers, account)
        for account in engine.pool.server
        if account.id in names
    }
    wrong = {name: _entry("FAILED_INIT", f"Failed to initialize client: {why}") for name, why in failed.items()}
    return {**found, **wrong}


async def _of_account(engine: Engine, ledgers: Ledgers, account: Account) -> dict[str, Any]:
    settings = engine.settings
    ledger = await ledgers.read(account.ledger_id)
    rests_s = settings.accounts.key_cooldown_s
    cooldown = await ledgers.read(COOLDOWN_LEDGER + account.id) if rests_s else None
    out = None
    if engine.pool.is_disabled(account):
        reason, _ = engine.pool.why_out([account])
        out = Out(engine.pool.disabled().get(account.id, "rejected"), reason)
    facts = Facts(
        now_ms=ledgers.now_ms,
        ledger=ledger,
        limits=account.limits_for,
        exhaustion=settings.accounts.exhaustion,
        out=out,
        cooldown=cooldown,
        cooldown_ms=int(1000 * rests_s),
    )
    by_model = states(facts)
    worst = max(by_model.values(), key=lambda state: ORDER.index(state.name))
    entry = _entry(worst.name, worst.why, worst, _rejections(ledger))
    entry["models"] = {model: state.name for model, state in by_model.items() if model != ANY_MODEL}
    return entry


def _rejections(ledger: State | None) -> int:
    """Rejections for an exhausted quota in a row, of the model that has most."""
    if ledger is None:
        return 0
    return max((section.circuit.rejections for section in ledger.sections.values()), default=0)


def _entry(status: Name, why: str, state: AccountState | None = None, count: int = 0) -> dict[str, Any]:
    def seconds(ms: int | None) -> float | None:
        return None if ms is None else ms / 1000

    return {
        "status": status,
        "exhausted_count": count,
        "since": seconds(None if state is None else state.since_ms),
        "until": seconds(None if state is None else state.until_ms),
        "why": why,
        "models": {},
    }


class StateLog:
    """Logs each change of a key's state."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def note(self, found: Summary) -> None:
        for name, entry in found.items():
            before, now = self._last.get(name, "AVAILABLE"), entry["status"]
            if now != before:
                log.info("Key %s: %s -> %s. %s", name, before, now, entry["why"])
            self._last[name] = now

    async def watch(self, engine: Engine, names: Mapping[str, str], failed: Mapping[str, str]) -> None:
        """Until it is cancelled. A ledger that cannot be read has told its requests so."""
        while True:
            await self.look(engine, names, failed)
            await asyncio.sleep(WATCH_S)

    async def look(self, engine: Engine, names: Mapping[str, str], failed: Mapping[str, str]) -> None:
        try:
            self.note(await summary(engine, names, failed))
        except StoreError as error:
            log.debug("The states of the keys cannot be read: %s", error)
