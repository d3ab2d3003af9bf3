"""`python -m shared.accounts`: lists, adds, tests, disables and removes accounts, and imports and exports them.

It works on the stored configuration in LEDGER_URL's store. Secrets are read from a prompt or from standard input, and only their
last four characters are printed."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import orjson
from dotenv import load_dotenv

from shared.accounts import manage
from shared.accounts.account import Kind
from shared.accounts.credentials import MAX_SECRET_CHARS, checked
from shared.accounts.manage import NewAccount
from shared.accounts.old_file import InvalidOldFile
from shared.accounts.pasted import MAX_PASTED_CHARS, Pasted, TooMuchText, fingerprint_of, parse_pasted
from shared.accounts.records import AccountRecord
from shared.accounts.sealing import Unsealable
from shared.configuration.resealing import reseal_others
from shared.errors import BadRequest, GatewayError
from shared.ops import accounts_files, accounts_proxy, accounts_table
from shared.ops.accounts_configuration import show_configuration
from shared.ops.accounts_desk import Desk, OpenDesk, checked_ids, now_ms, print_result
from shared.ops.accounts_projects import assign_project
from shared.ops.accounts_states import state_rows
from shared.ops.accounts_testing import test_accounts
from shared.ops.terminal import InputError, QuietParser, read_secret, read_text
from shared.secret import Secret
from shared.settings.accounts import WHY_NO_SESSION_ACCOUNTS
from shared.settings.keys import account_id
from shared.settings.settings import Settings, SettingsError
from shared.stores.port import StoreError

ENV_FILE = Path(__file__).resolve().parents[2] / ".env"
DESCRIPTION = "Lists, adds, tests, disables and removes accounts, and imports and exports them."
MAX_LINES_SHOWN = 20
_PLACE_NAME_CHARS = 30


def run(open_desk: OpenDesk) -> None:
    load_dotenv(ENV_FILE)
    sys.exit(main(sys.argv[1:], os.environ, open_desk))


def main(arguments: Sequence[str], env: Mapping[str, str], open_desk: OpenDesk) -> int:
    """The exit status: 0 if all is done, 1 if something is not (the reason is on stderr), 2 if the arguments are wrong."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment(env)
        if settings.ledger_url == "memory://":
            raise InputError(
                "LEDGER_URL is memory://, a store inside the serving process; set it to a store that both use."
            )
        return asyncio.run(_command(options, settings, open_desk))
    except InvalidOldFile as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems) + "Nothing was imported.\n")
    except GatewayError as error:
        sys.stderr.write(f"{error.message}\n")
    except (SettingsError, StoreError, Unsealable, InputError, TooMuchText) as error:
        sys.stderr.write(f"{error}\n")
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = QuietParser(prog="python -m shared.accounts", description=DESCRIPTION, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=QuietParser, metavar="COMMAND")

    def command(name: str, what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        made.add_argument("--json", action="store_true", help="one JSON object instead of text")
        return made

    command("list", "list all accounts: the environment's and the stored ones")
    command("states", "list the state of each account, since when and why")
    add = command("add", "add one account, whose secret is read from a prompt or from standard input")
    add.add_argument("--kind", choices=get_args(Kind), default="api_key")
    add.add_argument("--label", default="", help="a name for it")
    add.add_argument("--project", help="the Google project, if it is known: accounts of one project share its limits")
    add.add_argument(
        "--place", action="append", default=[], metavar="NAME=VALUE", help="such as location=eu; for each kind: README"
    )
    add.add_argument("--adc", action="store_true", help="use Application Default Credentials instead of a key file")
    paste = command("paste", "add many accounts from standard input: keys, one on each line, and service accounts")
    paste.add_argument("--project", help="the Google project of all these keys")
    test = command("test", "ask Google whether it accepts the accounts' secrets (all accounts without ids)")
    test.add_argument("ids", nargs="*", metavar="ID")
    test.add_argument("--no-marker", action="store_true", help="upload no file: do not look for keys of one project")
    for name, what in (("enable", "let accounts serve again"), ("disable", "let accounts serve no more requests")):
        command(name, what).add_argument("ids", nargs="+", metavar="ID")
    remove = command("remove", "delete accounts with their secrets")
    remove.add_argument("ids", nargs="+", metavar="ID")
    remove.add_argument("--yes", action="store_true", help="confirm the deletion")
    assign = command("assign-project", "name the Google project of a key, with whose other keys it shares the limits")
    assign.add_argument("id", metavar="ID")
    assign.add_argument("project", metavar="PROJECT")
    accounts_files.add_commands(command)
    accounts_proxy.add_command(command)
    command("configuration", "list each field of the stored configuration, and what the environment locks")
    command("rotate-key", "encrypt all secrets anew with the first key of ACCOUNTS_DATA_KEY")
    return parser


async def _command(options: argparse.Namespace, settings: Settings, open_desk: OpenDesk) -> int:
    commands: dict[str, Callable[[argparse.Namespace, Desk], Awaitable[int]]] = {
        "list": _list,
        "states": _states,
        "add": _add,
        "paste": _paste,
        "test": test_accounts,
        "enable": _enable,
        "disable": _disable,
        "remove": _remove,
        "assign-project": assign_project,
        "import": _import,
        "export": _export,
        "rotate-key": _rotate_key,
        "proxy": accounts_proxy.proxy_command,
        "configuration": show_configuration,
    }
    desk = await open_desk(settings)
    try:
        return await commands[options.command](options, desk)
    finally:
        await desk.aclose()


# -- show --------------------------------------------------------------------------------------------------------------


async def _list(options: argparse.Namespace, desk: Desk) -> int:
    rows = accounts_table.rows_of(desk.settings.server_keys, await desk.configuration.accounts())
    print_result(options, {"accounts": accounts_table.accounts_json(rows)}, accounts_table.accounts_text(rows))
    return 0


async def _states(options: argparse.Namespace, desk: Desk) -> int:
    rows = await state_rows(desk.settings, await desk.configuration.accounts(), desk.keys, desk.store)
    print_result(options, {"states": accounts_table.states_json(rows)}, accounts_table.states_text(rows))
    return 0


# -- add ---------------------------------------------------------------------------------------------------------------


async def _add(options: argparse.Namespace, desk: Desk) -> int:
    desk = replace(desk, keys=desk.make_keys())
    if options.kind == "enterprise_session" and not desk.settings.accounts.allow_session_accounts:
        raise InputError(WHY_NO_SESSION_ACCOUNTS)
    if options.adc and options.kind not in ("vertex", "enterprise"):
        raise InputError("--adc is for the kinds vertex and enterprise; leave it out.")
    secret = Secret('{"type":"adc"}') if options.adc else _secret_of(options.kind)
    new = NewAccount(options.kind, secret, options.label, options.project, _place(options.place))
    added = await _add_all(desk, [new])
    if added.duplicates:
        raise InputError("This account exists already; nothing was added.")
    rows = accounts_table.rows_of((), added.records)
    print_result(
        options, {"added": accounts_table.accounts_json(rows)}, f"Added:\n{accounts_table.accounts_text(rows)}"
    )
    return 0


def _secret_of(kind: Kind) -> Secret:
    if not sys.stdin.isatty() or kind == "api_key":
        return read_secret("API key: ", MAX_SECRET_CHARS)
    if kind == "enterprise_session":
        secure, host = (
            read_secret(f"Cookie {name}: ", MAX_SECRET_CHARS) for name in ("__Secure-C_SES", "__Host-C_OSES")
        )
        return Secret(orjson.dumps({"secure_c_ses": secure.reveal(), "host_c_oses": host.reveal()}).decode())
    # A prompt takes one line; the shell would take the rest of a pasted file.
    raise InputError("Send the service account's key file to standard input: `... add --kind vertex < key.json`.")


def _place(given: Sequence[str]) -> dict[str, str]:
    place = {}
    for item in given:
        name, separator, value = item.partition("=")
        if not separator or not name.isidentifier() or len(name) > _PLACE_NAME_CHARS:
            raise InputError("--place must be NAME=VALUE, like --place location=eu.")
        place[name] = value
    return place


async def _add_all(desk: Desk, given: Sequence[NewAccount]) -> manage.Added:
    environment = [key.secret for key in desk.settings.server_keys]
    return await manage.add(desk.configuration, desk.keys, given, now_ms(), environment)


async def _paste(options: argparse.Namespace, desk: Desk) -> int:
    desk = replace(desk, keys=desk.make_keys())
    if sys.stdin.isatty():
        sys.stderr.write(
            "Paste the keys, one on each line, then press Ctrl-D. The screen shows them; `paste < FILE` does not.\n"
        )
    pasted = parse_pasted(read_text(MAX_PASTED_CHARS), await _known(desk))
    given = [
        NewAccount(one.kind, one.secret, one.label, options.project if one.kind == "api_key" else None, one.place)
        for one in pasted.new
    ]
    added = await _add_all(desk, given) if given else manage.Added(())
    rows = accounts_table.rows_of((), added.records)
    duplicates = len(pasted.duplicates) + len(added.duplicates)
    print_result(
        options,
        {
            "new": len(rows),
            "duplicate": duplicates,
            "malformed": len(pasted.malformed),
            "accounts": accounts_table.accounts_json(rows),
            "lines": [
                {"line": line.number, "result": result, "why": line.why}
                for result, lines in (("duplicate", pasted.duplicates), ("malformed", pasted.malformed))
                for line in lines
            ],
        },
        f"{len(rows)} new, {duplicates} duplicate, {len(pasted.malformed)} malformed.\n" + _lines(pasted),
    )
    return 1 if pasted.malformed else 0


def _lines(pasted: Pasted) -> str:
    """The malformed lines, which the operator has to correct."""
    shown = [f"line {line.number}: {line.why}\n" for line in pasted.malformed[:MAX_LINES_SHOWN]]
    more = len(pasted.malformed) - len(shown)
    return "".join(shown) + (f"and {more} more; --json lists all\n" if more else "")


async def _known(desk: Desk) -> set[str]:
    """The fingerprints of all accounts whose secret can be read."""
    known = {fingerprint_of("api_key", key.secret) for key in desk.settings.server_keys}
    for record in await desk.configuration.accounts():
        secret = manage.readable(desk.keys, record)
        if secret is not None:
            known.add(fingerprint_of(record.kind, secret))
    return known


# -- change ------------------------------------------------------------------------------------------------------------


def _stored_ids(options: argparse.Namespace, desk: Desk) -> set[str]:
    ids = checked_ids(options.ids)
    for key in desk.settings.server_keys:
        if account_id(key.source) in ids:
            raise InputError(
                f"{account_id(key.source)} is set by the environment; change or remove {key.source} there."
            )
    return ids


async def _enable(options: argparse.Namespace, desk: Desk) -> int:
    ids = _stored_ids(options, desk)
    for record in await desk.configuration.accounts():
        if record.id not in ids:
            continue
        if record.kind == "enterprise_session" and not desk.settings.accounts.allow_session_accounts:
            raise InputError(f"{record.id} was not enabled. {WHY_NO_SESSION_ACCOUNTS}")
        try:
            checked(record.kind, manage.secret_of(desk.keys, record))
        except (BadRequest, Unsealable):
            raise InputError(
                f"{record.id} was not enabled: its secret is missing or cannot be read; add it again."
            ) from None
    return _changed(options, "enabled", await manage.enable(desk.configuration, ids))


async def _disable(options: argparse.Namespace, desk: Desk) -> int:
    return _changed(options, "disabled", await manage.disable(desk.configuration, _stored_ids(options, desk)))


async def _remove(options: argparse.Namespace, desk: Desk) -> int:
    ids = _stored_ids(options, desk)
    if not options.yes:
        raise InputError("This deletes the accounts with their secrets. Repeat with --yes to delete them.")
    return _changed(options, "removed", await manage.remove(desk.configuration, ids))


def _changed(options: argparse.Namespace, what: str, records: Sequence[AccountRecord]) -> int:
    ids = [record.id for record in records]
    print_result(options, {what: ids}, "".join(f"{what} {name}\n" for name in ids))
    return 0


async def _import(options: argparse.Namespace, desk: Desk) -> int:
    summary = await accounts_files.import_file(
        options, desk.configuration, desk.make_keys(), desk.settings.accounts.allow_session_accounts, now_ms()
    )
    print_result(options, summary.as_json(), summary.text())
    return 0


async def _export(options: argparse.Namespace, desk: Desk) -> int:
    await accounts_files.export_file(options, desk.configuration, desk.keys)
    return 0


async def _rotate_key(options: argparse.Namespace, desk: Desk) -> int:
    accounts, of_accounts = await manage.reseal(desk.configuration, desk.keys)
    others, of_others = await reseal_others(desk.configuration, desk.keys)
    count, unreadable = accounts + others, (*of_accounts, *of_others)
    print_result(
        options,
        {"encrypted_anew": count, "unreadable": list(unreadable)},
        f"{count} encrypted anew. The earlier keys can be removed from ACCOUNTS_DATA_KEY.\n"
        if not unreadable
        else f"{count} encrypted anew; no key decrypts {', '.join(unreadable)}. Keep the earlier keys in ACCOUNTS_DATA_KEY.\n",
    )
    return 1 if unreadable else 0
