"""The accounts command's `assign-project`: a person knows the Google project of a key for which no test could find it out."""

from __future__ import annotations

import argparse
from dataclasses import replace

from shared.accounts import manage
from shared.accounts.records import AccountRecord
from shared.admission.merge_ledgers import merge_ledgers
from shared.configuration.stored_accounts import ledger_id_of
from shared.errors import NotFound
from shared.ledger.grid import Grid
from shared.ops.accounts_desk import Desk, checked_ids, print_result
from shared.ops.terminal import InputError
from shared.settings.keys import account_id


async def assign_project(options: argparse.Namespace, desk: Desk) -> int:
    """First the account's ledger and the project's become one, so that what the account sent before counts in the project's
    limits; then its record names the project. If the command ends between the two, the next one completes it."""
    (name,) = checked_ids([options.id])
    record, project = await _record(desk, name), options.project
    _ = replace(record, project=project)  # Raises BadRequest for what cannot be a project, before anything is merged.
    ledger = _ledger_of(record, project, desk)
    await merge_ledgers(desk.store, ledger, project, Grid.of(desk.settings.window_s).window_ms)
    await manage.assign_project(desk.configuration, [name], project)
    print_result(
        options,
        {"assigned": name, "project": project},
        f"{name} is of the project {project}, and shares its limits.\n",
    )
    return 0


async def _record(desk: Desk, name: str) -> AccountRecord:
    for key in desk.settings.server_keys:
        if account_id(key.source) == name:
            raise InputError(f"{name} is set by the environment; set {key.source}_PROJECT there.")
    for record in await desk.configuration.accounts():
        if record.id == name:
            return record
    raise NotFound(f"There is no stored account {name}; list the accounts for their ids.")


def _ledger_of(record: AccountRecord, project: str, desk: Desk) -> str:
    """The ledger that counts the account. Raises InputError if it must not be merged with the project's, or is not known."""
    if record.kind != "api_key":
        raise InputError(
            f"{record.id} is an account of the kind {record.kind}, whose place names its project; add it again with --place."
        )
    if record.project not in (None, project):
        # A merge cannot be undone, and would let the accounts of both projects share the limits of one.
        raise InputError(
            f"{record.id} is of the project {record.project} already. To correct that, remove the account, and add it again with "
            f"--project {project}."
        )
    secret = manage.readable(desk.keys, record)
    if secret is None and record.project is None:
        raise InputError(
            f"No key of ACCOUNTS_DATA_KEY decrypts the secret of {record.id}, so the ledger that counts it is not known; set the "
            "key with which it was encrypted."
        )
    return ledger_id_of(record, secret)
