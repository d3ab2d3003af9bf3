"""GET /health: is the ledger reachable, what have refusals taught it, and what is this gateway set to. Never a secret."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.gemini.models import MODELS
from shared.generation import JsonObject
from shared.ledger.inspection import refusals, stopped
from shared.ledger.limits import Limits
from shared.ledger.packing import UnreadableState, unpack
from shared.ledger.state import COLLECTION
from shared.settings import Settings
from shared.stores.port import Store, StoreError

PROBE_TIMEOUT_S = 2.0
MOST_PROJECTS = 20
"""So many of the server's projects are looked at; callers' own are not."""


async def health_report(settings: Settings, store: Store, pool: Pool) -> JsonObject:
    """`status` is `healthy`, or `degraded` while the ledger cannot be reached: generation then answers 503."""
    reachable, reason = True, None
    try:
        await store.read(COLLECTION + "health-probe", timeout_s=PROBE_TIMEOUT_S)
    except StoreError as error:
        reachable, reason = False, str(error)
    ledger: JsonObject = {"kind": store.kind, "reachable": reachable}
    if reason is not None:
        ledger["reason"] = reason
    else:
        ledger["projects"] = await _projects(settings, store, pool.server)
    return {
        "status": "healthy" if reachable else "degraded",
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
            "configured": len(pool.server),
            "out": pool.out(),
            "same_project": [_same_project(ids) for ids in pool.same_projects()],
        },
        "ledger": ledger,
    }


def _same_project(ids: list[str]) -> JsonObject:
    """Account ids are the names of the keys' variables, in lower case with hyphens."""
    names = [f"{name.upper().replace('-', '_')}_PROJECT" for name in ids]
    return {
        "accounts": ids,
        "message": "These keys belong to one Google project and share its limits, but are counted as several projects. "
        f"Set {', '.join(names[:-1])} and {names[-1]} to the same value.",
    }


async def _projects(settings: Settings, store: Store, accounts: Iterable[Account]) -> list[JsonObject]:
    """What holds for each project of the server's accounts, which stand for it. One that cannot be read says why."""
    by_ledger: dict[str, list[str]] = {}
    for account in accounts:
        by_ledger.setdefault(account.ledger_id, []).append(account.id)
    looked = list(by_ledger.items())[:MOST_PROJECTS]
    found = await asyncio.gather(*(_project(settings, store, ledger_id) for ledger_id, _ in looked))
    return [{"accounts": ids, **about} for (_, ids), about in zip(looked, found, strict=True)]


async def _project(settings: Settings, store: Store, ledger_id: str) -> JsonObject:
    try:
        reading = await store.read(COLLECTION + ledger_id, timeout_s=PROBE_TIMEOUT_S)
        if reading.value is None:
            return {"stopped": None, "models": {}}
        state = unpack(reading.value)
    except (StoreError, UnreadableState) as error:
        return {"stopped": None, "models": {}, "reason": str(error)}
    now_ms = int(reading.sample.server_ms)
    found = {model: refusals(state, model, now_ms, settings.limits_of(model)) for model in state.sections}
    models = {model: about for model, about in found.items() if any(about.values())}
    return {"stopped": stopped(state.spend, now_ms), "models": models}


def limits_json(limits: Limits) -> JsonObject:
    """In the words of the environment's variables; null is unlimited."""
    return {"rpm": limits.requests, "tpm": limits.input_tokens, "ipm": limits.images, "rpd": limits.requests_per_day}
