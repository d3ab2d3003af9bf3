"""GET /health: whether the ledger is usable, what it learned from Gemini's rejections, and the gateway's configuration. It is
public, so it shows no secret, no path and no project name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from shared.accounts.pool import Pool
from shared.clock import elapsed_s
from shared.gemini.models import MODELS
from shared.generation import JsonObject
from shared.ledger.inspection import refusals, stopped
from shared.ledger.limits import Limits
from shared.ledger.packing import UnreadableState, unpack
from shared.ledger.state import COLLECTION
from shared.settings.settings import Settings
from shared.stores.port import Change, Put, Store, StoreError

PROBE_TIMEOUT_S = 2.0
CACHE_S = 5.0
"""A report of the ledger is cached for this long: GET /health is public, and a database may charge for reads."""
MAX_PROJECTS = 20
"""Maximum of the server's projects in a report; ledgers of callers' own keys are not included."""
_PROBE = "rate/health-probe"
_PROBE_MS = 60_000


class Health:
    """The health reports of one process. Their part about the ledger is at most CACHE_S old; the rest is current."""

    def __init__(self, settings: Settings, store: Store, pool: Pool, elapsed: Callable[[], float] = elapsed_s) -> None:
        self._settings, self._store, self._pool, self._elapsed = settings, store, pool, elapsed
        self._ledger: JsonObject = {}
        self._expires_s = 0.0
        self._turn = asyncio.Lock()

    async def report(self) -> JsonObject:
        """`status` is `healthy`, or `degraded` while the ledger is unusable: requests to generate then get 503."""
        # Requests that arrive while the ledger is being read wait for that result.
        async with self._turn:
            if self._elapsed() >= self._expires_s:
                self._ledger = await ledger_report(self._settings, self._store, _accounts(self._settings, self._pool))
                self._expires_s = self._elapsed() + CACHE_S
        return health_report(self._settings, self._pool, self._ledger)


async def ledger_report(settings: Settings, store: Store, accounts: Mapping[str, str]) -> JsonObject:
    """`accounts`: id -> ledger id of its project."""
    try:
        await _probe(store)
    except StoreError as error:
        return {"kind": store.kind, "reachable": False, "reason": error.public_message}
    return {"kind": store.kind, "reachable": True, "projects": await _projects(settings, store, accounts)}


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


def health_report(settings: Settings, pool: Pool, ledger: JsonObject) -> JsonObject:
    return {
        "status": "healthy" if ledger["reachable"] else "degraded",
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
            "same_project": [_same_project(ids) for ids in pool.same_projects()],
        },
        "ledger": ledger,
    }


def _same_project(ids: list[str]) -> JsonObject:
    """Account ids are the names of the keys' variables, in lower case with hyphens."""
    names = [f"{name.upper().replace('-', '_')}_PROJECT" for name in ids]
    return {
        "accounts": ids,
        "message": "These keys belong to one Google project and share its limits, but are configured as several projects. The "
        "server counts them together once it has found that out; until then it may send more than Google allows. "
        f"Set {', '.join(names[:-1])} and {names[-1]} to the same value.",
    }


async def _projects(settings: Settings, store: Store, accounts: Mapping[str, str]) -> list[JsonObject]:
    """The state of each project, named by its accounts. A project that cannot be read has a `reason`."""
    by_ledger: dict[str, list[str]] = {}
    for account, ledger_id in accounts.items():
        by_ledger.setdefault(ledger_id, []).append(account)
    included = list(by_ledger.items())[:MAX_PROJECTS]
    found = await asyncio.gather(*(_project(settings, store, ledger_id) for ledger_id, _ in included))
    return [{"accounts": ids, **about} for (_, ids), about in zip(included, found, strict=True)]


async def _project(settings: Settings, store: Store, ledger_id: str) -> JsonObject:
    try:
        reading = await store.read(COLLECTION + ledger_id, timeout_s=PROBE_TIMEOUT_S)
        if reading.value is None:
            return {"stopped": None, "models": {}}
        state = unpack(reading.value)
    except StoreError as error:
        return {"stopped": None, "models": {}, "reason": error.public_message}
    except UnreadableState as error:
        return {"stopped": None, "models": {}, "reason": str(error)}
    if state.moved:
        return await _project(settings, store, state.moved)
    now_ms = int(reading.sample.server_ms)
    found = {model: refusals(state, model, now_ms, settings.limits_of(model)) for model in state.sections}
    models = {model: about for model, about in found.items() if any(about.values())}
    return {"stopped": stopped(state.spend, now_ms), "models": models}


def limits_json(limits: Limits) -> JsonObject:
    """Limits under the names of the environment variables; null is unlimited."""
    return {"rpm": limits.requests, "tpm": limits.input_tokens, "ipm": limits.images, "rpd": limits.requests_per_day}
