"""The states of all accounts: what their records say, and what the ledgers of their projects say of each model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from shared.accounts.account import COOLDOWN_LEDGER
from shared.accounts.ledgers import Ledgers
from shared.accounts.manage import readable
from shared.accounts.pool import SEALED
from shared.accounts.records import AccountRecord
from shared.accounts.sealing import DataKeys
from shared.accounts.states import ANY_MODEL, AccountState, Facts, Out, states
from shared.configuration.stored_accounts import ledger_id_of
from shared.ledger.state import State
from shared.ops.accounts_table import StateRow
from shared.settings.accounts import WHY_NO_SESSION_ACCOUNTS
from shared.settings.keys import account_id
from shared.settings.settings import Settings
from shared.stores.port import Store


class Listed(NamedTuple):
    """An account whose states are shown. `ledger_id`: of its project; None if that is not known. `out`: Gemini rejected it, or
    this server may not use it."""

    id: str
    ledger_id: str | None
    enabled: bool = True
    out: Out | None = None


def listed(record: AccountRecord, settings: Settings, ledger_of: Callable[[AccountRecord], str | None]) -> Listed:
    """`ledger_of` is not asked for a disabled account, whose state does not depend on its ledger."""
    out = None if record.out is None else Out(record.out.kind, record.out.message, record.out.since_ms)
    if out is None and record.kind == "enterprise_session" and not settings.accounts.allow_session_accounts:
        out = Out("not_allowed", WHY_NO_SESSION_ACCOUNTS)
    return Listed(record.id, ledger_of(record) if record.enabled else None, record.enabled, out)


def facts_of(settings: Settings, account: Listed, ledger: State | None, cooldown: State | None, now_ms: int) -> Facts:
    """What the states of the account follow from. `ledger` is its project's, `cooldown` its own."""
    return Facts(
        now_ms=now_ms,
        ledger=ledger,
        limits=settings.limits_of,
        exhaustion=settings.accounts.exhaustion,
        enabled=account.enabled,
        out=account.out,
        cooldown=cooldown,
        cooldown_ms=int(1000 * settings.accounts.key_cooldown_s),
    )


async def state_rows(
    settings: Settings, records: Sequence[AccountRecord], keys: DataKeys, store: Store
) -> list[StateRow]:
    """The environment's accounts, then the stored ones; each for all models, and for those in another state. Raises
    StoreError."""
    ledgers = Ledgers(store)
    accounts = [Listed(account_id(key.source), key.project) for key in settings.server_keys]
    accounts += [_stored(record, settings, keys) for record in records]
    return [row for account in accounts for row in await _rows(settings, ledgers, account)]


def _stored(record: AccountRecord, settings: Settings, keys: DataKeys) -> Listed:
    """An instance with the same keys does not use an account whose secret none of them decrypts."""
    secret = readable(keys, record) if record.enabled else None
    account = listed(record, settings, lambda one: ledger_id_of(one, secret))
    if keys and record.enabled and secret is None and account.out is None:
        return account._replace(out=Out(SEALED, "No key of ACCOUNTS_DATA_KEY decrypts its secret."))
    return account


async def _rows(settings: Settings, ledgers: Ledgers, account: Listed) -> list[StateRow]:
    ledger = None if account.ledger_id is None else await ledgers.read(account.ledger_id)
    cooldown = await ledgers.read(COOLDOWN_LEDGER + account.id) if settings.accounts.key_cooldown_s else None
    general, models = of_models(states(facts_of(settings, account, ledger, cooldown, ledgers.now_ms)))
    return [_row(account.id, None, general), *(_row(account.id, model, state) for model, state in models.items())]


def of_models(found: dict[str, AccountState]) -> tuple[AccountState, dict[str, AccountState]]:
    """The state of an account, and those of the models that are in another state."""
    general = found[ANY_MODEL]
    return general, {model: state for model, state in found.items() if state.name != general.name}


def _row(name: str, model: str | None, state: AccountState) -> StateRow:
    return StateRow(name, model, state.name, state.since_ms or 0, state.until_ms or 0, state.why)
