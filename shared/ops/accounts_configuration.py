"""The accounts command's `configuration`: each field of the stored configuration with the value that holds, where that comes
from, and which variable of the environment locks the field."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, get_args

import orjson

from shared.accounts.old_file import credential_in, public_url
from shared.accounts.sealing import DataKeys
from shared.configuration.document import Configuration
from shared.configuration.effective import effective
from shared.configuration.stored_proxy import readable_url
from shared.gemini.models import OVERRIDDEN, Purpose
from shared.ops.accounts_desk import Desk, print_result
from shared.ops.accounts_table import MIN_KEY_CHARS_SHOWN, rows_of, table
from shared.ops.health import limits_json
from shared.secret import Secret
from shared.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class FieldRow:
    """`source` of the `value` that holds: a variable, `stored` or `default`. `stored`: the stored value, None if there is none.
    `locked_by`: the variable that wins over whatever is stored."""

    field: str
    value: Any
    source: str
    stored: Any = None
    locked_by: str | None = None


async def show_configuration(options: argparse.Namespace, desk: Desk) -> int:
    configuration = await desk.configuration.read(max_age_s=0.0)
    rows = field_rows(desk.settings, configuration, desk.keys)
    print_result(
        options,
        {"version": configuration.version, "fields": [asdict(row) for row in rows]},
        f"version {configuration.version}\n{_text(rows)}",
    )
    return 0


def field_rows(settings: Settings, configuration: Configuration, keys: DataKeys) -> list[FieldRow]:
    """`settings` are the environment's. Raises BadRequest if both together are not valid."""
    proxy = configuration.proxy
    url = readable_url(proxy, keys) if proxy is not None else None
    merged, locked = effective(settings, configuration, url if proxy is not None and proxy.enabled else None)

    def row(field: str, value: Any, stored: Any) -> FieldRow:
        lock = locked.get(field)
        return FieldRow(field, value, lock or ("default" if stored is None else "stored"), stored, lock)

    limits = {str(name): value for name, value in configuration.limits.items()}
    accounts = rows_of(settings.server_keys, configuration.accounts)
    return [
        FieldRow(
            "accounts",
            [f"...{account.last4}" if account.last4 else account.id for account in accounts],
            ", ".join(dict.fromkeys(account.source for account in accounts)) or "default",
        ),
        row("concurrency", merged.concurrency_limit, configuration.concurrency),
        row("tier", merged.tier, configuration.tier),
        *(
            row(f"limits.{name}", _shown_limit(value), limits.get(name))
            for name, value in limits_json(merged.limits).items()
        ),
        row(
            "model_limits",
            {model: _shown_limits(limits_json(limits)) for model, limits in merged.model_limits.items()},
            configuration.model_limits or None,
        ),
        *(
            row(f"models.{purpose}", _model(merged, purpose), configuration.models.get(purpose))
            for purpose in get_args(Purpose)
        ),
        row("aliases", dict(configuration.aliases), configuration.aliases or None),
        _proxy_row(row("proxy", None, None), merged, url, enabled=proxy is not None and proxy.enabled),
        row("cors_origins", list(merged.cors_origins), configuration.cors_origins),
        row("caller_weights", dict(merged.caller_weights), configuration.caller_weights or None),
    ]


def _proxy_row(row: FieldRow, merged: Settings, stored: Secret | None, *, enabled: bool) -> FieldRow:
    used = merged.proxies.https or merged.proxies.http
    source = row.locked_by or ("stored" if enabled else "default")
    shown = None if stored is None else f"{_shown_proxy(stored)} ({'on' if enabled else 'off'})"
    return FieldRow(row.field, None if used is None else _shown_proxy(used), source, shown, row.locked_by)


def _shown_proxy(url: Secret) -> str:
    """Without its credential, of which four characters are shown if it is long."""
    credential = credential_in(url)
    if credential is None:
        return public_url(url)
    text = credential.reveal()
    return f"{public_url(url)}, password {f'...{text[-4:]}' if len(text) >= MIN_KEY_CHARS_SHOWN else 'not shown'}"


def _model(merged: Settings, purpose: Purpose) -> str:
    override = merged.model_override if purpose in OVERRIDDEN else None
    return override or merged.models.default_model(purpose, merged.tier)


def _shown_limit(limit: int | None) -> int | str:
    return "unlimited" if limit is None else limit


def _shown_limits(limits: dict[str, int | None]) -> dict[str, int | str]:
    return {name: _shown_limit(value) for name, value in limits.items()}


def _text(rows: list[FieldRow]) -> str:
    return table(
        ("FIELD", "VALUE", "FROM", "NOTE"),
        ((row.field, _cell(row.value), row.source, "; ".join(_notes(row))) for row in rows),
    )


def _notes(row: FieldRow) -> Iterator[str]:
    if row.locked_by is not None:
        yield f"locked by {row.locked_by}"
    if row.stored is not None and row.source != "stored":
        yield f"stored: {_cell(row.stored)}"


def _cell(value: Any) -> str:
    """A text as it is; a list with commas; anything else as JSON, and nothing for what is not set."""
    if value is None or value in ([], {}):
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
