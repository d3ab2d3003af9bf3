"""Imports the old program's file into the stored configuration: as a whole, in one change, and once at a process's start."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.accounts.data_key import need_data_keys
from shared.accounts.old_file import MAX_FILE_BYTES, InvalidOldFile, OldFile, read_old_file, with_secrets
from shared.accounts.sealing import HOW_TO_SET, DataKeys, NoDataKey, Unsealable, open_with_passphrase
from shared.configuration.document import Configuration
from shared.configuration.old_program import NOT_ALLOWED, Import, imported
from shared.configuration.store import ConfigurationStore
from shared.errors import BadRequest, Unavailable
from shared.secret import Secret
from shared.settings.accounts import WHY_NO_SESSION_ACCOUNTS, AccountSettings, file_to_import
from shared.settings.settings import Settings

_KEYRING_S = 10.0


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """`new`, `updated` and `unchanged` count accounts; `not_allowed` are those new ones that wait for ALLOW_SESSION_ACCOUNTS."""

    new: int
    updated: int
    unchanged: int
    models: int
    proxy: bool
    not_allowed: int

    def as_json(self) -> dict[str, Any]:
        return {
            "new": self.new,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "models": self.models,
            "proxy": self.proxy,
            "not_allowed": self.not_allowed,
        }

    def text(self) -> str:
        counted = f"Imported accounts: {self.new} new, {self.updated} updated, {self.unchanged} unchanged; models: {self.models}"
        disabled = f"Disabled: {self.not_allowed}. {WHY_NO_SESSION_ACCOUNTS}\n" if self.not_allowed else ""
        return f"{counted}{'; and the proxy' if self.proxy else ''}.\n{disabled}"


async def import_old_file(
    configuration: ConfigurationStore,
    keys: DataKeys,
    data: bytes,
    *,
    sessions_allowed: bool,
    now_ms: int,
    passphrase: Callable[[], Secret] | None = None,
    once: bool = False,
) -> ImportSummary | None:
    """Imports `data`, or nothing of it. `passphrase` is called if the file has encrypted secrets; without it, they are left out.
    `once`: returns None where this file was imported before. Raises InvalidOldFile, BadRequest, Unsealable, Unavailable."""
    file = read_old_file(data)
    others: dict[str, Secret] = {}
    if file.encrypted is not None and passphrase is not None:
        file, others = with_secrets(file, open_with_passphrase(file.encrypted, passphrase()))
    given = Import(file, hashlib.sha256(data).hexdigest(), now_ms, sessions_allowed, others)
    summaries: list[ImportSummary | None] = []

    def changer(current: Configuration) -> Configuration:
        if once and given.digest in current.imported:
            summaries.append(None)
            return current
        changed = imported(current, given, keys)
        summaries.append(_summary(current, changed, file))
        return changed

    await configuration.change(changer)
    return summaries[-1]


def _summary(before: Configuration, after: Configuration, file: OldFile) -> ImportSummary:
    known = {record.id: record for record in before.accounts}
    ids = {account.id for account in file.accounts} | {other.id for other in file.other_accounts}
    given = [record for record in after.accounts if record.id in ids]
    new = [record for record in given if record.id not in known]
    unchanged = [record for record in given if known.get(record.id) == record]
    return ImportSummary(
        len(new),
        len(given) - len(new) - len(unchanged),
        len(unchanged),
        len(file.models),
        file.proxy is not None,
        sum(record.out is not None and record.out.kind == NOT_ALLOWED for record in new),
    )


async def import_at_start(
    configuration: ConfigurationStore, settings: Settings, now_ms: int, log: Callable[[str, str], None]
) -> bool:
    """Imports ACCOUNTS_FILE, else ./business_gemini_session.json if it exists, unless this very file was imported before. `log`
    gets one sentence, and its severity, if it was imported or cannot be; the process serves in either case, with the accounts
    that it has. Returns False if the configuration cannot be read or written now, so that nothing is known yet."""
    try:
        data = _file_at_start(settings.accounts)
        if data is None or hashlib.sha256(data).hexdigest() in (await configuration.read()).imported:
            return True
        summary = await import_old_file(
            configuration,
            await _data_keys(settings),
            data,
            sessions_allowed=settings.accounts.allow_session_accounts,
            now_ms=now_ms,
            once=True,
        )
    except Unavailable:
        return False
    except OSError as error:
        log(
            f"ACCOUNTS_FILE cannot be read: {error.strerror or type(error).__name__}. Correct the path, or unset it.",
            "WARNING",
        )
    except InvalidOldFile as error:
        log(f"The accounts file was not imported: {error.problems[0]}", "WARNING")
    except BadRequest as error:
        log(f"The accounts file was not imported: {error.message}", "WARNING")
    except Unsealable as error:
        log(f"The accounts file was not imported: {error}", "WARNING")
    else:
        if summary is not None:
            log(" ".join(summary.text().split()), "NOTICE")
    return True


async def _data_keys(settings: Settings) -> DataKeys:
    """Raises NoDataKey, also where the system's keyring waits for its user."""
    making = asyncio.to_thread(need_data_keys, settings.accounts.data_keys, deployed=settings.deployed)
    try:
        return await asyncio.wait_for(making, _KEYRING_S)
    except TimeoutError:
        raise NoDataKey(f"The system's keyring did not answer. {HOW_TO_SET}") from None


def _file_at_start(settings: AccountSettings) -> bytes | None:
    """None if there is no file to import. Raises OSError."""
    path = file_to_import(settings)
    if path is None:
        return None
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)
