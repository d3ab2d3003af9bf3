"""What the accounts command prints: rows of accounts and of their states, as text tables and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shared.accounts.records import AccountRecord
from shared.ledger.inspection import iso
from shared.settings.keys import ServerKey, account_id

MIN_KEY_CHARS_SHOWN = 16
"""Of a shorter key, four characters would be too large a part."""
MAX_CELL_CHARS = 60
MAX_WHY_CHARS = 160


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account. `source`: the variable that holds its key, or `stored`. `last4`: of its secret."""

    id: str
    kind: str
    label: str
    last4: str
    project: str | None
    source: str
    state: str
    added_ms: int = 0


@dataclass(frozen=True, slots=True)
class StateRow:
    """The state of one account, for one model or for all of them (None)."""

    id: str
    model: str | None
    state: str
    since_ms: int = 0
    until_ms: int = 0
    why: str = ""


def rows_of(server_keys: Sequence[ServerKey], records: Sequence[AccountRecord]) -> list[AccountRow]:
    """The accounts of the environment, then the stored ones."""
    return [
        *(
            AccountRow(account_id(key.source), "api_key", "", last4_of(key), project_of(key), key.source, "ENABLED")
            for key in server_keys
        ),
        *(
            AccountRow(
                record.id,
                record.kind,
                record.label,
                record.last4,
                record.project or record.place.get("project"),
                "stored",
                record.state,
                record.added_ms,
            )
            for record in records
        ),
    ]


def last4_of(key: ServerKey) -> str:
    text = key.secret.reveal()
    return text[-4:] if len(text) >= MIN_KEY_CHARS_SHOWN else ""


def project_of(key: ServerKey) -> str | None:
    """The project that the environment names; None where each key is a project of its own because it names none."""
    return None if key.project.startswith("k-") else key.project


def accounts_text(rows: Sequence[AccountRow]) -> str:
    if not rows:
        return "There is no account. Add one with `python -m shared.accounts add`.\n"
    return table(
        ("ID", "KIND", "LABEL", "KEY", "PROJECT", "SOURCE", "STATE", "ADDED"),
        (
            (
                row.id,
                row.kind,
                row.label,
                f"...{row.last4}" if row.last4 else "",
                row.project or "unknown",
                row.source,
                row.state,
                _time(row.added_ms),
            )
            for row in rows
        ),
    )


def states_text(rows: Sequence[StateRow]) -> str:
    return table(
        ("ID", "MODEL", "STATE", "SINCE", "UNTIL", "WHY"),
        (
            (
                row.id,
                row.model or "all",
                row.state,
                _time(row.since_ms),
                _time(row.until_ms),
                _cut(row.why, MAX_WHY_CHARS),
            )
            for row in rows
        ),
    )


def accounts_json(rows: Sequence[AccountRow]) -> list[dict[str, Any]]:
    return [
        {
            "id": row.id,
            "kind": row.kind,
            "label": row.label,
            "last4": row.last4,
            "project": row.project,
            "source": row.source,
            "state": row.state,
            "added": _time(row.added_ms) or None,
        }
        for row in rows
    ]


def states_json(rows: Sequence[StateRow]) -> list[dict[str, Any]]:
    return [
        {
            "id": row.id,
            "model": row.model,
            "state": row.state,
            "since": _time(row.since_ms) or None,
            "until": _time(row.until_ms) or None,
            "why": row.why,
        }
        for row in rows
    ]


def json_text(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their content; the last one is not cut."""
    cells = [tuple(heading), *((*(_cut(cell, MAX_CELL_CHARS) for cell in row[:-1]), row[-1]) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heading))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "".join(f"{line}\n" for line in lines)


def _cut(text: str, maximum: int) -> str:
    return text if len(text) <= maximum else f"{text[: maximum - 3]}..."


def _time(time_ms: int) -> str:
    return iso(time_ms) if time_ms else ""
