"""GET /health: whether the ledger is usable, what it learned from Gemini's rejections, and the gateway's configuration. It is
public, so it shows no secret, no path and no project name."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from shared.accounts.account import COOLDOWN_LEDGER
from shared.accounts.pool import Pool
from shared.accounts.records import AccountRecord
from shared.accounts.states import Out, states
from shared.clock import elapsed_s
from shared.gemini.models import MODELS
from shared.generation import JsonObject
from shared.ledger.inspection import refusals, stopped
from shared.ledger.limits import Limits
from shared.ledger.packing import UnreadableState, unpack
from shared.ledger.state import COLLECTION, State
from shared.ops.accounts_states import Listed, facts_of, listed, of_models
from shared.settings.settings import Settings
from shared.stores.port import KEYS_PER_READ, Change, Put, Store, StoreError, read_all

PROBE_TIMEOUT_S = 2.0
CACHE_S = 5.0
"""A report of the ledger is cached for this long: GET /health is public, and a database may charge for reads."""
MAX_PROJECTS = 20
"""Maximum of the server's projects in a report; ledgers of callers' own keys are not included."""
UNKNOWN = "UNKNOWN"
"""Counts accounts of which not all was read that their state follows from."""
_PROBE = "rate/health-probe"
_PROBE_MS = 60_000


class Project(NamedTuple):
    """A project's ledger as it was read; `state` is None where nothing was dispatched, or with the `reason` why not.
    `ledger_id` is that of the ledger which counts the project now; "" is the one that was asked for."""

    state: State | None = None
    now_ms: int = 0
    reason: str | None = None
    ledger_id: str = ""


_NOT_READ = Project(reason="This project is not among the first ones.")


class Ledger(NamedTuple):
    """`report` is the part of the body; `projects` are by the id of their ledger, and only those that were read. `cooldowns`:
    by account id, the ledger of its cooldown (None: it never rested), and only those that were read."""

    report: JsonObject
    projects: Mapping[str, Project]
    cooldowns: Mapping[str, State | None] = {}


class Stored(Protocol):
    """The stored accounts: `configuration.live.LiveConfiguration`."""

    @property
    def records(self) -> Sequence[AccountRecord]: ...

    def ledger_of(self, record: AccountRecord) -> str | None: ...


class NothingStored:
    records = ()

    def ledger_of(self, record: AccountRecord) -> str | None:
        return record.ledger_id


class Health:
    """The health reports of one process. Their part about the ledger is at most CACHE_S old; the rest is current."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        pool: Pool,
        elapsed: Callable[[], float] = elapsed_s,
        refresh: Callable[[], Awaitable[object]] | None = None,
        stored: Stored | None = None,
    ) -> None:
        """`refresh` reads the stored configuration again; it may set `settings` and change `stored`."""
        self.settings, self._store, self._pool, self._elapsed = settings, store, pool, elapsed
        self._refresh, self._stored = refresh, stored or NothingStored()
        self._ledger = Ledger({}, {})
        self._expires_s = 0.0
        self._turn = asyncio.Lock()

    async def report(self) -> JsonObject:
        """`status` is `healthy`, or `degraded` while the ledger is unusable: requests to generate then get 503."""
        ledger = await self.ledger()
        return health_report(self.settings, self._pool, self._accounts(), ledger)

    async def ledger(self) -> Ledger:
        """The server's projects, at most CACHE_S old."""
        # Requests that arrive while the ledger is being read wait for that result.
        async with self._turn:
            if self._elapsed() >= self._expires_s:
                ledger = read_ledger(self.settings, self._store, self._accounts())
                # Both at once: where the store does not answer, the report takes as long as one of them.
                self._ledger, _ = await asyncio.gather(ledger, self._refresh() if self._refresh else asyncio.sleep(0))
                self._expires_s = self._elapsed() + CACHE_S
            return self._ledger

    def _accounts(self) -> list[Listed]:
        """All accounts, with what the records say, and what this process found out about the others. A function without a
        Gemini key has the environment's from GEMINI_PROJECTS."""
        out = {name: Out(kind) for name, kind in self._pool.disabled().items()}
        serving = {account.id: account.ledger_id for account in self._pool.server} or self.settings.reported_projects
        found = {name: Listed(name, ledger_id, out=out.get(name)) for name, ledger_id in serving.items()}
        for record in self._stored.records:
            known = found.get(record.id)
            account = listed(record, self.settings, lambda one: serving.get(one.id) or self._stored.ledger_of(one))
            found[record.id] = account if account.out or known is None else account._replace(out=known.out)
        return list(found.values())


async def read_ledger(settings: Settings, store: Store, accounts: Sequence[Listed]) -> Ledger:
    try:
        await _probe(store)
    except StoreError as error:
        return Ledger({"kind": store.kind, "reachable": False, "reason": error.public_message}, {})
    by_ledger: dict[str, list[str]] = {}
    for account in accounts:
        if account.ledger_id is not None:
            by_ledger.setdefault(account.ledger_id, []).append(account.id)
    included = list(by_ledger)[:MAX_PROJECTS]
    resting = (
        [name for ledger_id in included for name in by_ledger[ledger_id]] if settings.accounts.key_cooldown_s else []
    )
    reads = asyncio.gather(*(read_project(store, ledger_id) for ledger_id in included))
    cooldowns, found = await asyncio.gather(_read_cooldowns(store, resting), reads)
    projects = dict(zip(included, found, strict=True))
    reports = _project_reports(settings, by_ledger, projects)
    return Ledger({"kind": store.kind, "reachable": True, "projects": reports}, projects, cooldowns)


def _project_reports(
    settings: Settings, by_ledger: Mapping[str, list[str]], projects: Mapping[str, Project]
) -> list[JsonObject]:
    """One of each project, with its accounts, also where their ledgers were merged."""
    accounts: dict[str, list[str]] = {}
    for ledger_id, project in projects.items():
        accounts.setdefault(project.ledger_id, []).extend(by_ledger[ledger_id])
    counted = {project.ledger_id: project for project in projects.values()}
    return [{"accounts": accounts[i], **_project_report(settings, project)} for i, project in counted.items()]


async def _read_cooldowns(store: Store, accounts: Sequence[str]) -> Mapping[str, State | None]:
    """By account id, without those that cannot be read. They are read in one round trip, so only those of the first accounts."""
    keys = {name: f"{COLLECTION}{COOLDOWN_LEDGER}{name}" for name in accounts[:KEYS_PER_READ]}
    if not keys:
        return {}
    try:
        values = await read_all(store, list(keys.values()), PROBE_TIMEOUT_S)
    except StoreError:
        return {}
    read: dict[str, State | None] = {}
    for name, key in keys.items():
        value = values[key]
        with suppress(UnreadableState):
            read[name] = None if value is None else unpack(value)
    return read


async def _probe(store: Store) -> None:
    """Raises StoreError if the ledger is unusable. Only a write shows that a disk is full. Firestore is only read: it cannot
    be full, it charges for writes, and the account of a public function may only read."""
    if store.kind == "firestore":
        await store.read(_PROBE, timeout_s=PROBE_TIMEOUT_S)
        return
    await store.transact(
        [_PROBE],
        lambda _, now_ms: Change(None, {_PROBE: Put(b"", now_ms + _PROBE_MS)}),
        timeout_s=PROBE_TIMEOUT_S,
    )


def health_report(settings: Settings, pool: Pool, accounts: Sequence[Listed], ledger: Ledger) -> JsonObject:
    return {
        "status": "healthy" if ledger.report["reachable"] else "degraded",
        "message": "Gemini API backend running",
        "version": settings.version,
        "concurrency_limit": settings.concurrency_limit,
        "tier": settings.tier,
        "limits": {
            "default": limits_json(settings.limits),
            "models": {model: limits_json(limits) for model, limits in settings.model_limits.items()},
        },
        "models": sorted({*MODELS, *settings.model_limits}),
        "accounts": {
            "configured": len(accounts),
            "out": pool.disabled(),
            **_by_state(settings, accounts, ledger),
            "same_project": [_same_project(ids) for ids in pool.same_projects()],
        },
        "ledger": ledger.report,
    }


def _by_state(settings: Settings, accounts: Sequence[Listed], ledger: Ledger) -> JsonObject:
    """How many accounts are in which state; and for the models that some accounts cannot serve as they serve others, how many
    of these."""
    counts, models = Counter[str](), dict[str, Counter[str]]()
    for account in accounts:
        project = ledger.projects.get(account.ledger_id or "", _NOT_READ)
        rests = bool(settings.accounts.key_cooldown_s)
        cooldown = ledger.cooldowns.get(account.id)
        general, others = of_models(states(facts_of(settings, account, project.state, cooldown, project.now_ms)))
        unread = project.reason is not None or (rests and account.id not in ledger.cooldowns)
        # What is not read may be a reason not to serve, but is none to serve again.
        counts[UNKNOWN if unread and general.name == "AVAILABLE" else general.name] += 1
        for model, state in others.items():
            models.setdefault(model, Counter())[state.name] += 1
    return {"states": dict(counts), "models": {model: dict(found) for model, found in sorted(models.items())}}


def _same_project(ids: list[str]) -> JsonObject:
    """Account ids are the names of the keys' variables, in lower case with hyphens."""
    names = [f"{name.upper().replace('-', '_')}_PROJECT" for name in ids]
    return {
        "accounts": ids,
        "message": "These keys belong to one Google project and share its limits, but are configured as several projects. The "
        "server counts them together once it has found that out; until then it may send more than Google allows. "
        f"Set {', '.join(names[:-1])} and {names[-1]} to the same value.",
    }


async def read_project(store: Store, ledger_id: str) -> Project:
    """One read, or two for a project whose ledger was merged into another one."""
    try:
        reading = await store.read(COLLECTION + ledger_id, timeout_s=PROBE_TIMEOUT_S)
        state = None if reading.value is None else unpack(reading.value)
    except StoreError as error:
        return Project(reason=error.public_message, ledger_id=ledger_id)
    except UnreadableState as error:
        return Project(reason=str(error), ledger_id=ledger_id)
    if state is not None and state.moved:
        return await read_project(store, state.moved)
    return Project(state, int(reading.sample.server_ms), ledger_id=ledger_id)


def _project_report(settings: Settings, project: Project) -> JsonObject:
    """What was learned about a project; one that cannot be read has a `reason`."""
    state, now_ms = project.state, project.now_ms
    if state is None:
        return {"stopped": None, "models": {}, **({"reason": project.reason} if project.reason else {})}
    found = {model: refusals(state, model, now_ms, settings.limits_of(model)) for model in state.sections}
    models = {model: about for model, about in found.items() if any(about.values())}
    return {"stopped": stopped(state.spend, now_ms), "models": models}


def limits_json(limits: Limits) -> JsonObject:
    """Limits under the names of the environment variables; null is unlimited. `batches` is there if it is configured."""
    named = {"rpm": limits.requests, "tpm": limits.input_tokens, "ipm": limits.images, "rpd": limits.requests_per_day}
    return named if limits.batches is None else {**named, "batches": limits.batches}
