"""The accounts command's `import` and `export`: the old program's file, with its secrets encrypted with a passphrase."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace

from shared.accounts.old_file import MAX_FILE_BYTES, secrets_of, write_old_file
from shared.accounts.sealing import DataKeys, seal_with_passphrase
from shared.configuration.importing import ImportSummary, import_old_file
from shared.configuration.old_program import exported
from shared.configuration.store import ConfigurationStore
from shared.ops.terminal import InputError, read_file, read_passphrase, write_private_file

_PASSPHRASE_FILE = "read the passphrase from this file's first line, not from a prompt"


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    importing = command("import", "import a business_gemini_session.json, or an export of this command")
    importing.add_argument("file", metavar="FILE", help="`-` for standard input")
    importing.add_argument("--passphrase-file", metavar="FILE", help=_PASSPHRASE_FILE)
    exporting = command("export", "write all accounts in the shape of business_gemini_session.json, as JSON")
    exporting.add_argument("--secrets", action="store_true", help="include the secrets, encrypted with a passphrase")
    exporting.add_argument("--output", metavar="FILE", help="a new file, instead of standard output")
    exporting.add_argument("--passphrase-file", metavar="FILE", help=_PASSPHRASE_FILE)


async def import_file(
    options: argparse.Namespace, configuration: ConfigurationStore, keys: DataKeys, sessions_allowed: bool, now_ms: int
) -> ImportSummary:
    summary = await import_old_file(
        configuration,
        keys,
        read_file(options.file, MAX_FILE_BYTES),
        sessions_allowed=sessions_allowed,
        now_ms=now_ms,
        passphrase=lambda: read_passphrase(options.passphrase_file, twice=False),
    )
    assert summary is not None
    return summary


async def export_file(options: argparse.Namespace, configuration: ConfigurationStore, keys: DataKeys) -> None:
    """An export with secrets has all of them, or nothing is written."""
    export = exported(await configuration.read(max_age_s=0.0), keys if options.secrets else None)
    file = export.file
    if export.unreadable:
        raise InputError(
            f"No key of ACCOUNTS_DATA_KEY decrypts {', '.join(export.unreadable[:10])}; append the earlier key, or remove "
            "these accounts. Nothing was exported."
        )
    if options.secrets:
        passphrase = read_passphrase(options.passphrase_file, twice=True)
        file = replace(file, encrypted=seal_with_passphrase(secrets_of(file, export.other_secrets), passphrase))
    content = write_old_file(file)
    if options.output is None:
        sys.stdout.write(content.decode())
    else:
        write_private_file(options.output, content)
        sys.stderr.write(f"Exported {len(file.accounts) + len(file.other_accounts)} accounts.\n")
