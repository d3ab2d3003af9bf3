"""`python -m shared.ledger show|reset`: prints the ledger's state of each project, and clears what it learned from Gemini.

LEDGER_URL, in the environment or in .env, names the ledger. No secret is printed."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from dotenv import load_dotenv

from shared.accounts.account import COOLDOWN_LEDGER, OWN_LEDGER
from shared.admission.config import ACCEPTED_KEY_TTL_S
from shared.ledger.inspection import forget_learned, iso, report
from shared.ledger.limits import Limits
from shared.ledger.packing import UnreadableState, pack, unpack
from shared.ledger.state import COLLECTION
from shared.settings.settings import Settings, SettingsError
from shared.stores.port import Change, Put, Store, StoreError
from shared.stores.url import open_store

ENV_FILE = Path(__file__).resolve().parents[2] / ".env"
MAX_PROJECTS = 1_000
DANGER = (
    "This deletes what was dispatched and reserved: in the current minute and day, more requests than the limits allow can "
    "then be sent. Repeat with --yes to delete it."
)


def run() -> None:
    load_dotenv(ENV_FILE)
    sys.exit(main(sys.argv[1:], os.environ))


def main(arguments: Sequence[str], env: Mapping[str, str], store: Store | None = None) -> int:
    """The exit status: 0 if done, 1 if rejected or failed (the reason is on stderr). `store` replaces LEDGER_URL's."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment(env)
        if store is None and settings.ledger_url == "memory://":
            raise ValueError(
                "LEDGER_URL is memory://, a ledger inside the serving process that no other process can read."
            )
        return asyncio.run(_command(options, settings, store or open_store(settings.ledger_url)))
    except (SettingsError, StoreError, UnreadableState, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shared.ledger", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="print the ledger's state of each project")
    show.add_argument("project", nargs="?", help="only this one")
    show.add_argument("--json", action="store_true", help="one JSON object instead of text")
    show.add_argument(
        "--own-keys", action="store_true", help="list the ledgers of callers' own keys, not only their count"
    )
    reset = commands.add_parser("reset", help="clear what the ledger learned from Gemini's rejections of a project")
    reset.add_argument("project")
    what = reset.add_mutually_exclusive_group()
    what.add_argument("--model", help="only for this model")
    what.add_argument("--all", action="store_true", help="delete the project's whole document")
    reset.add_argument("--cool-only", action="store_true", help="only the stops, not the learned limits")
    reset.add_argument("--yes", action="store_true", help="with --all: confirm the deletion")
    return parser


async def _command(options: argparse.Namespace, settings: Settings, store: Store) -> int:
    try:
        if options.command == "show":
            return await _show(options, settings, store)
        return await _reset(options, store)
    finally:
        await store.aclose()


# -- show --------------------------------------------------------------------------------------------------------------


async def _show(options: argparse.Namespace, settings: Settings, store: Store) -> int:
    ids = [key.removeprefix(COLLECTION) for key in await store.list(COLLECTION, limit=MAX_PROJECTS)]
    if options.project is not None and options.project not in ids:
        raise ValueError(f"The ledger has no project {options.project!r}; it has {_names(ids)}.")
    own = [i for i in ids if i.startswith(OWN_LEDGER)]
    projects_of_keys = [i for i in ids if not i.startswith(COOLDOWN_LEDGER)]
    shown = [options.project] if options.project else [i for i in projects_of_keys if options.own_keys or i not in own]
    projects = {i: found for i in shown if (found := await _project(i, settings, store)) is not None}
    if options.json:
        whole = {"projects": projects, "own_key_ledgers": len(own)}
        sys.stdout.write(orjson.dumps(whole, option=orjson.OPT_INDENT_2).decode() + "\n")
        return 0
    for name, found in projects.items():
        sys.stdout.write("\n".join([f"project {name}", *_lines(found), "", ""]))
    if not options.project:
        sys.stdout.write(f"{_counted(len(own), 'ledger')} of callers' own keys\n")
    return 0


def _names(ids: Sequence[str]) -> str:
    named = [i for i in ids if not i.startswith((OWN_LEDGER, COOLDOWN_LEDGER))]
    return ", ".join(named[:20]) or "no project of the server"


async def _project(ledger_id: str, settings: Settings, store: Store) -> dict[str, Any] | None:
    reading = await store.read(COLLECTION + ledger_id)
    if reading.value is None:
        return None
    about: dict[str, Any] = {"document": {"bytes": len(reading.value)}}
    try:
        state = unpack(reading.value)
    except UnreadableState as error:
        return {**about, "unreadable": str(error)}
    now_ms = int(reading.sample.server_ms)

    def limits_of(model: str) -> Limits:
        return settings.caller_limits if ledger_id.startswith(OWN_LEDGER) else settings.limits_of(model)

    about["document"] |= {"written": iso(state.now_ms), "age_s": round(max(0, now_ms - state.now_ms) / 1000, 1)}
    return {**about, **report(state, now_ms, limits_of)}


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _lines(found: Mapping[str, Any]) -> list[str]:
    document = found["document"]
    if "unreadable" in found:
        return [f"  document  {document['bytes']} bytes: {found['unreadable']}"]
    if found["merged_into"]:
        return [f"  merged into project {found['merged_into']}, which counts the requests of its accounts"]
    slots = found["slots"]
    by = ", ".join(f"{instance} {count}" for instance, count in slots["by"].items())
    limit = "" if slots["limit"] is None else f" of {slots['limit']}"
    lines = [
        f"  document  {document['bytes']} bytes, written {document['age_s']} s ago",
        f"  slots     {slots['held']}{limit} held{': ' if by else ''}{by} ({_counted(found['instances'], 'instance')})",
    ]
    if found["stopped"]:
        lines.append(f"  all models: {_stopped(found['stopped'])}")
    lines += [f"  {name} is metered as {model}" for name, model in found["metered_as"].items()]
    for model, about in found["models"].items():
        lines += [f"  {model}", *(f"    {line}" for line in _model_lines(about))]
    return lines


def _model_lines(about: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, amount in about["window"].items():
        if amount["limit"] is not None or amount["used"] or amount["booked"]:
            limit = "unlimited" if amount["limit"] is None else amount["limit"]
            lines.append(f"{name.replace('_', ' ')}: {amount['used']} used, {amount['booked']} booked, limit {limit}")
    limit = "" if about["day_limit"] is None else f" of {about['day_limit']}"
    lines += [f"{day}: {count}{limit} requests" for day, count in about["days"].items()]
    if about["stopped"]:
        lines.append(_stopped(about["stopped"]))
    for name, learned in (about["learned_limits"] or {}).items():
        tested = "being tested" if learned["state"] == "half-open" else learned["state"]
        tested = f"tested again at {learned['tested_at']}" if learned["state"] == "open" else tested
        lines.append(
            f"Gemini named a limit of {learned['named']} {name.replace('_', ' ')}: {learned['usable']} used, {tested}"
        )
    for name, outside in (about["outside_consumer"] or {}).items():
        usable = f"at most {outside['usable']} {name.replace('_', ' ')} are used"
        lines.append(f"somebody else seems to use the quota since {outside['since']}: {usable}")
    if about["debt_tokens"]:
        lines.append(f"{about['debt_tokens']} input tokens more than reserved so far")
    return lines


def _stopped(about: Mapping[str, Any]) -> str:
    when = f"until {about['until']}" if about["state"] == "open" else "one request tests whether it still holds"
    return f"stopped ({about['kind']}), {when}: {about['message'] or 'Gemini gave no reason'}"


# -- reset -------------------------------------------------------------------------------------------------------------


async def _reset(options: argparse.Namespace, store: Store) -> int:
    key = COLLECTION + options.project
    if options.all and options.cool_only:
        raise ValueError("--all and --cool-only exclude each other. Use one of them.")
    if options.all and not options.yes:
        sys.stderr.write(DANGER + "\n")
        return 1

    def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[list[str] | None]:
        blob = values[key]
        if blob is None:
            return Change(None)
        if options.all:
            return Change([], {key: None})
        state = unpack(blob)
        changed = forget_learned(state, options.model, cool_only=options.cool_only)
        packed = pack(state)
        return Change(changed, {key: Put(packed, _expires_ms(options.project, now_ms))} if packed != blob else {})

    changed = (await store.transact([key], step)).result
    if changed is None:
        raise ValueError(f"The ledger has no project {options.project!r}.")
    said = "deleted" if options.all else f"cleared: {', '.join(changed) or 'there was nothing to clear'}"
    sys.stdout.write(f"project {options.project}: {said}\n")
    return 0


def _expires_ms(ledger_id: str, now_ms: int) -> int | None:
    """The ledger of a caller's key expires again, as after any other write."""
    return now_ms + 1000 * ACCEPTED_KEY_TTL_S if ledger_id.startswith(OWN_LEDGER) else None
