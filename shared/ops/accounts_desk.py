"""What each accounts command works with, and how it prints its result."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.accounts.account import Kind
from shared.accounts.same_project import Found
from shared.accounts.sealing import DataKeys
from shared.accounts.testing import Tester
from shared.clock import unix_s
from shared.configuration.store import ConfigurationStore
from shared.ops.accounts_table import json_text
from shared.ops.terminal import InputError
from shared.settings.settings import Settings
from shared.stores.port import Store


@dataclass(frozen=True, slots=True)
class Desk:
    """What the command works with. `settings`: the environment's, with the stored configuration below it. `configuration` and
    `testers` are bound to the running event loop."""

    settings: Settings
    configuration: ConfigurationStore
    store: Store
    keys: DataKeys
    """Those that exist. Empty if there is none."""
    make_keys: Callable[[], DataKeys]
    """The keys for new secrets; where the system's keyring has none yet, one is made there. Raises NoDataKey."""
    testers: Mapping[Kind, Tester]
    same_projects: Callable[[Collection[str]], Awaitable[Found]]
    """Finds the accounts that are of one Google project with those of the given ids, and lets them share a ledger."""
    aclose: Callable[[], Awaitable[None]]


OpenDesk = Callable[[Settings], Awaitable[Desk]]


def print_result(options: argparse.Namespace, as_json: Mapping[str, Any], text: str) -> None:
    sys.stdout.write(json_text(as_json) if options.json else text)


def now_ms() -> int:
    return int(unix_s() * 1000)


def checked_ids(ids: Sequence[str]) -> set[str]:
    """Raises InputError for what cannot be an id, without repeating it: it may be a key."""
    for name in ids:
        if len(name) > 63 or not all(char.islower() or char.isdigit() or char == "-" for char in name):
            raise InputError("An argument is no account's id; list the accounts for their ids.")
    return set(ids)
