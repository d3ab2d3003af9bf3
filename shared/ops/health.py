"""GET /health: whether the ledger is usable, what it learned from Gemini's rejections, and the gateway's configuration. It is
public, so it shows no secret, no path and no project name."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from shared.accounts.pool import Pool
from shared.accounts.states import ANY_MODEL, Facts, Out, best, states
from shared.clock import elapsed_s
from shared.gemini.models import MODELS
from shared.generation import JsonObject
from shared.ledger.inspection import refusals, stopped
from shared.ledger.limits import Limits
from shared.ledger.packing import UnreadableState, unpack
from shared.ledger.state import COLLECTION, State
from shared.settings.settings import Settings
from shared.stores.port import Change, Put, Store, StoreError

PROBE_TIMEOUT_S = 2.0
CACHE_S = 5.0
"""A report of the ledger is cached for this long: GET /health is public, and a database may charge for reads."""
MAX_PROJECTS = 20
"""Maximum of the server's projects in a report; ledgers of callers' own keys are not included."""
UNKNOWN = "UNKNOWN"
"""Counts accounts whose project was not read."""
_PROBE = "rate/health-probe"
_PROBE_MS = 60_000


class Project(NamedTuple):
    """A project's ledger as it was read; `state` is None where nothing was dispatched, or with the `reason` why not."""

    state: State | None = None
    now_ms: int = 0
    reason: str | None = None


class Ledger(NamedTuple):
    """`report` is the part of the body; `projects` are by the id of their ledger, and only those that were read."""

    report: JsonObject
    projects: Mapping[str, Project]


class Health:
    """The health reports of one process. Their part about the ledger is at most CACHE_S old; the rest is current."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        pool: Pool,
        elapsed: Callable[[], float] = elapsed_s,
        refresh: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """`refresh` reads the stored configuration again; it may set `settings`."""
        self.settings, self._store, self._pool, self._elapsed = settings, store, pool, elapsed
        self._refresh = refresh
        self._ledger = Ledger({}, {})
        self._expires_s = 0.0
        self._turn = asyncio.Lock()

    async def report(self) -> JsonObject:
        """`status` is `healthy`, or `degraded` while the ledger is unusable: requests to generate then get 503."""
        return health_report(self.settings, self._pool, await self.ledger())

    async def ledger(self) -> Ledger:
        """The server's projects, at most CACHE_S old."""
        # Requests that arrive while the ledger is being read wait for that result.
        async with self._turn:
            if self._elapsed() >= self._expires_s:
                ledger = read_ledger(self.settings, self._store, _accounts(self.settings, self._pool))
                # Both at once: where the store does not answer, the report takes as long as one of them.
                self._ledger, _ = await asyncio.gather(ledger, self._refresh() if self._refresh else asyncio.sleep(0))
                self._expires_s = self._elapsed() + CACHE_S
            return self._ledger


async def read_ledger(settings: Settings, store: Store, accounts: Mapping[str, str]) -> Ledger:
    """`accounts`: id -> ledger id of its project."""
    try:
        await _probe(store)
    except StoreError as error:
        return Ledger({"kind": store.kind, "reachable": False, "reason": error.public_message}, {})
    by_ledger: dict[str, list[str]] = {}
    for account, ledger_id in accounts.items():
        by_ledger.setdefault(ledger_id, []).append(account)
    included = list(by_ledger)[:MAX_PROJECTS]
    found = await asyncio.gather(*(read_project(store, ledger_id) for ledger_id in included))
    projects = dict(zip(included, found, strict=True))
    reports = [{"accounts": by_ledger[i], **_project_report(settings, one)} for i, one in projects.items()]
    return Ledger({"kind": store.kind, "reachable": True, "projects": reports}, projects)


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


def _accounts(settings: Settings, pool: Pool) -> Mapping[str, str]:
    """Account id -> ledger id. A function without a Gemini key has them from GEMINI_PROJECTS."""
    return {account.id: account.ledger_id for account in pool.server} or settings.reported_projects


def health_report(settings: Settings, pool: Pool, ledger: Ledger) -> JsonObject:
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
            "configured": len(_accounts(settings, pool)),
            "out": pool.disabled(),
            **_by_state(settings, pool, ledger),
            "same_project": [_same_project(ids) for ids in pool.same_projects()],
        },
        "ledger": ledger.report,
    }


def _by_state(settings: Settings, pool: Pool, ledger: Ledger) -> JsonObject:
    """How many accounts are in which state, and for the models that some of them cannot serve, how many of these."""
    out, accounts, models = pool.disabled(), Counter[str](), dict[str, Counter[str]]()
    for account, ledger_id in _accounts(settings, pool).items():
        project = ledger.projects.get(ledger_id)
        if (project is None or project.reason) and account not in out:
            accounts[UNKNOWN] += 1
            continue
        known = project or Project()
        reason = Out(out[account]) if account in out else None
        found = states(Facts(known.now_ms, known.state, settings.limits_of, settings.accounts.exhaustion, out=reason))
        accounts[best(found).name] += 1
        if reason is None:
            for model, state in found.items():
                if model != ANY_MODEL and state.name != "AVAILABLE":
                    models.setdefault(model, Counter())[state.name] += 1
    return {"states": dict(accounts), "models": {model: dict(counts) for model, counts in sorted(models.items())}}


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
        return Project(reason=error.public_message)
    except UnreadableState as error:
        return Project(reason=str(error))
    if state is not None and state.moved:
        return await read_project(store, state.moved)
    return Project(state, int(reading.sample.server_ms))


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
