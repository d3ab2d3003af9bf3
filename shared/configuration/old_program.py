"""The old program's file and the stored configuration: what an import changes, and what an export contains. Pure.

An import adds and updates; it removes nothing. What has no meaning here is kept below one name of `Configuration.unknown`: models
with the id of the account that they belong to, other fields, and one sealed text with those that may be secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from shared.accounts.credentials import checked, last4
from shared.accounts.manage import readable
from shared.accounts.old_file import OldAccount, OldFile, OtherAccount
from shared.accounts.records import AccountRecord, OutReason, place_of
from shared.accounts.sealing import DataKeys, Unsealable
from shared.configuration.document import Configuration
from shared.configuration.stored_proxy import readable_url, stored
from shared.errors import BadRequest
from shared.secret import Secret
from shared.settings.accounts import WHY_NO_SESSION_ACCOUNTS

KEPT = "business_gemini_session"
SEALED_AS = "import:business_gemini_session"
"""What the sealed text of the file's other secrets belongs to. No account can have this id."""

NOT_ALLOWED, UNAVAILABLE, NO_SECRET = "session_not_allowed", "unavailable_in_file", "no_secret"
_REASONS = {
    NOT_ALLOWED: WHY_NO_SESSION_ACCOUNTS,
    UNAVAILABLE: "The imported file marks this account as unavailable. Enable it to use it again.",
    NO_SECRET: "The imported file does not contain this account's secret. Import a file that does.",
}


@dataclass(frozen=True, slots=True)
class Import:
    """A file with its secrets, and how it is imported. `digest`: the SHA-256 of its bytes, in hex digits."""

    file: OldFile
    digest: str
    now_ms: int
    sessions_allowed: bool
    other_secrets: Mapping[str, Secret] = field(default_factory=dict)
    """The credentials of the file's other accounts, by id."""


@dataclass(frozen=True, slots=True)
class Export:
    """`file` has the secrets only if they were asked for. `unreadable`: ids of accounts that no data key opens."""

    file: OldFile
    other_secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    unreadable: tuple[str, ...] = ()


# -- import ------------------------------------------------------------------------------------------------------------


def imported(current: Configuration, given: Import, keys: DataKeys) -> Configuration:
    """`current` with the file's content. Raises BadRequest, NoDataKey."""
    file = given.file
    records = {record.id: record for record in current.accounts}
    for account in file.accounts:
        records[account.id] = _session(records.get(account.id), account, given, keys)
    for other in file.other_accounts:
        records[other.id] = _other(records.get(other.id), other, given, keys)
    kept = _kept(current)
    models = {model["fields"]["id"]: model for model in kept["models"]}
    models |= {model["id"]: _stored_model(model, file.accounts) for model in file.models}
    unknown = {
        "models": list(models.values()),
        "fields": {**kept["fields"], **file.unknown},
        "sealed": _sealed(keys, SEALED_AS, file.secrets, kept["sealed"]),
    }
    digests = current.imported if given.digest in current.imported else (*current.imported, given.digest)
    return replace(
        current,
        accounts=tuple(records.values()),
        # A file without a proxy leaves the stored one.
        proxy=current.proxy
        if file.proxy is None
        else stored(file.proxy, keys, current.proxy, enabled=file.proxy_enabled),
        unknown={**current.unknown, KEPT: unknown} if any(unknown.values()) else current.unknown,
        imported=digests,
    )


def _session(known: AccountRecord | None, account: OldAccount, given: Import, keys: DataKeys) -> AccountRecord:
    place = {"team_id": account.team_id, "csesidx": account.csesidx, "user_agent": account.user_agent}
    found = known or AccountRecord(account.id, "enterprise_session", "", added_ms=given.now_ms, place=place)
    # `available` is for an export, as long as this gateway has not used the account.
    unknown = {**found.unknown, **account.unknown, "available": account.available}
    found = _with_secret(replace(found, place=place, unknown=unknown), account.secrets, keys)
    if known is not None and not _was_incomplete(known):
        return found
    if not _is_complete(found, keys):
        return _in_state(found, NO_SECRET, given)
    return _in_state(
        found, NOT_ALLOWED if not given.sessions_allowed else None if account.available else UNAVAILABLE, given
    )


def _other(known: AccountRecord | None, other: OtherAccount, given: Import, keys: DataKeys) -> AccountRecord:
    place = place_of(other.kind, other.place)
    found = known or AccountRecord(other.id, other.kind, "", added_ms=given.now_ms, place=place)
    if found.kind != other.kind:
        raise BadRequest(
            f"other_accounts: the account {other.id} is stored as {found.kind}; remove it here, or change the file."
        )
    found = replace(found, label=other.label, project=other.project, place=place)
    found = _with_secret(found, given.other_secrets.get(other.id), keys)
    if known is not None and not _was_incomplete(known):
        return found
    if not _is_complete(found, keys):
        return _in_state(found, NO_SECRET, given)
    return replace(_in_state(found, None, given), enabled=other.enabled)


def _with_secret(record: AccountRecord, secret: Secret | None, keys: DataKeys) -> AccountRecord:
    """`record` with `secret`, unless it has the same one already, or a complete one and `secret` is not."""
    if secret is None:
        return record
    stored = readable(keys, record) if record.sealed else None
    complete = record.kind != "enterprise_session" or has_cookies(secret)
    if stored == secret or (stored is not None and not complete):
        return record
    sealed = keys.seal(record.id, (checked(record.kind, secret) if complete else secret).reveal().encode())
    return replace(record, sealed=sealed, last4=last4(record.kind, secret), revision=record.revision + 1)


def has_cookies(secret: Secret) -> bool:
    """Whether the secret of a session account has the cookies, and not only other fields of an imported file."""
    return "secure_c_ses" in orjson.loads(secret.reveal())


def _is_complete(record: AccountRecord, keys: DataKeys) -> bool:
    secret = readable(keys, record) if record.sealed else None
    return secret is not None and (record.kind != "enterprise_session" or has_cookies(secret))


def _was_incomplete(record: AccountRecord) -> bool:
    return record.out is not None and record.out.kind == NO_SECRET


def _in_state(record: AccountRecord, reason: str | None, given: Import) -> AccountRecord:
    if reason is None:
        return replace(record, enabled=True, out=None)
    return replace(record, enabled=False, out=OutReason.of(reason, _REASONS[reason], given.now_ms))


def _stored_model(model: Mapping[str, Any], accounts: tuple[OldAccount, ...]) -> dict[str, Any]:
    """`account_index` becomes the account's id, because an index is wrong as soon as an account is removed."""
    index = model.get("account_index")
    return {"fields": dict(model), "account": None if index is None else accounts[index].id}


def _sealed(keys: DataKeys, name: str, secret: Secret | None, before: str) -> str:
    """`secret` as sealed text; `before` where there is no new secret, or the same one."""
    if secret is None or (before and _opened(keys, name, before) == secret):
        return before
    return keys.seal(name, secret.reveal().encode())


def _opened(keys: DataKeys, name: str, sealed: str) -> Secret | None:
    try:
        return Secret(keys.open(name, sealed).decode())
    except Unsealable:
        return None


def _kept(configuration: Configuration) -> dict[str, Any]:
    return {"models": [], "fields": {}, "sealed": "", **configuration.unknown.get(KEPT, {})}


# -- export ------------------------------------------------------------------------------------------------------------


def exported(configuration: Configuration, keys: DataKeys | None) -> Export:
    """The configuration in the shape of the old file; with its secrets if there are `keys` to open them."""
    sessions = [record for record in configuration.accounts if record.kind == "enterprise_session"]
    others = [record for record in configuration.accounts if record.kind != "enterprise_session"]
    secrets: dict[str, Secret] = {}
    unreadable: list[str] = []
    for record in configuration.accounts if keys is not None else ():
        secret = readable(keys, record) if keys is not None else None
        if secret is not None:
            secrets[record.id] = secret
        elif record.sealed:
            unreadable.append(record.id)
    kept, proxy = _kept(configuration), configuration.proxy
    indexes = {record.id: index for index, record in enumerate(sessions)}
    file = OldFile(
        readable_url(proxy, keys) if proxy is not None else None,
        proxy is not None and proxy.enabled,
        tuple(_exported_session(record, secrets.get(record.id)) for record in sessions),
        tuple(_exported_model(model, indexes) for model in kept["models"]),
        tuple(
            OtherAccount(record.id, record.kind, record.label, record.project, record.place, record.enabled)
            for record in others
        ),
        unknown=kept["fields"],
        secrets=_opened(keys, SEALED_AS, kept["sealed"]) if keys is not None and kept["sealed"] else None,
    )
    return Export(file, {record.id: secrets[record.id] for record in others if record.id in secrets}, tuple(unreadable))


def _exported_session(record: AccountRecord, secret: Secret | None) -> OldAccount:
    unknown = dict(record.unknown)
    as_imported = bool(unknown.pop("available", True))
    untouched = record.out is not None and record.out.kind in _REASONS and not record.enabled
    place = record.place
    return OldAccount(
        place["team_id"],
        place["csesidx"],
        place.get("user_agent", ""),
        as_imported if untouched else record.enabled and record.out is None,
        secret,
        unknown,
    )


def _exported_model(model: Mapping[str, Any], indexes: Mapping[str, int]) -> Mapping[str, Any]:
    """A model whose account was removed belongs to none."""
    if model["account"] is None:
        return dict(model["fields"])
    return {**model["fields"], "account_index": indexes.get(model["account"])}
