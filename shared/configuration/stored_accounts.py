"""The stored accounts as accounts of the pool: opened secrets, limits, and which of them are out and why. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from shared.accounts.account import Account
from shared.accounts.manage import secret_of
from shared.accounts.pool import SEALED
from shared.accounts.records import AccountRecord, OutReason
from shared.accounts.sealing import DataKeys, Unsealable
from shared.configuration.document import Configuration
from shared.secret import Secret
from shared.settings.settings import Settings

_NO_SECRET = Secret("")


@dataclass(frozen=True, slots=True)
class StoredAccounts:
    """`accounts` are the enabled ones; `out` has the reason of each that cannot serve; `revisions` are those of the records."""

    accounts: tuple[Account, ...] = ()
    out: Mapping[str, OutReason] = field(default_factory=dict)
    revisions: Mapping[str, int] = field(default_factory=dict)


class SecretCache:
    """Opened secrets by their sealed text: a new version of the configuration decrypts only what is new."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str], Secret] = {}

    def open_all(self, keys: DataKeys, records: Collection[AccountRecord]) -> tuple[dict[str, Secret], dict[str, str]]:
        """Account id -> its secret, and account id -> why it cannot be opened."""
        opened: dict[tuple[str, str], Secret] = {}
        failures: dict[str, str] = {}
        for record in records:
            name = (record.id, record.sealed)
            try:
                opened[name] = self._opened.get(name) or secret_of(keys, record)
            except Unsealable as error:
                failures[record.id] = str(error)
        self._opened = opened
        return {account_id: secret for (account_id, _), secret in opened.items()}, failures


def stored_accounts(
    settings: Settings, configuration: Configuration, keys: DataKeys, cache: SecretCache
) -> StoredAccounts:
    """Without a data key there are none. An account with a key of the environment is left out: the environment's serves. So
    are session accounts, unless ALLOW_SESSION_ACCOUNTS is set."""
    records = [record for record in configuration.accounts if record.enabled and _is_allowed(record, settings)]
    if not keys or not records:
        return StoredAccounts()
    secrets, failures = cache.open_all(keys, records)
    taken = {key.secret for key in settings.server_keys}
    records = [record for record in records if secrets.get(record.id) not in taken]
    out = {record.id: record.out for record in records if record.out is not None}
    out |= {account_id: OutReason.of(SEALED, why, 0) for account_id, why in failures.items()}
    accounts = tuple(
        Account(
            id=record.id,
            ledger_id=ledger_id_of(record, secret),
            credential=secret,
            concurrency=settings.concurrency_limit,
            limits=settings.limits,
            model_limits=settings.model_limits,
            kind=record.kind,
            place=record.place,
            limits_version=configuration.version,
        )
        for record in records
        for secret in [secrets.get(record.id, _NO_SECRET)]
    )
    return StoredAccounts(accounts, out, {record.id: record.revision for record in records})


def _is_allowed(record: AccountRecord, settings: Settings) -> bool:
    return record.kind != "enterprise_session" or settings.accounts.allow_session_accounts


def ledger_id_of(record: AccountRecord, secret: Secret | None) -> str:
    """A key whose project is not known counts as a project of its own, as in `settings.keys`. `secret` is None if no data key
    opens it."""
    if record.ledger_id is not None:
        return record.ledger_id
    return f"k-{secret.fingerprint('project')}" if secret else f"k-{record.id}"
