"""GET /health: is the ledger reachable, and what is this gateway set to. Never a secret."""

from __future__ import annotations

from shared.accounts.pool import Pool
from shared.gemini.models import MODELS
from shared.generation import JsonObject
from shared.ledger.limits import Limits
from shared.settings import Settings
from shared.stores.port import Store, StoreError

PROBE_TIMEOUT_S = 2.0


async def health_report(settings: Settings, store: Store, pool: Pool) -> JsonObject:
    """`status` is `healthy`, or `degraded` while the ledger cannot be reached: generation then answers 503."""
    reachable, reason = True, None
    try:
        await store.read("ledger/health-probe", timeout_s=PROBE_TIMEOUT_S)
    except StoreError as error:
        reachable, reason = False, str(error)
    ledger: JsonObject = {"kind": store.kind, "reachable": reachable}
    if reason is not None:
        ledger["reason"] = reason
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
        "accounts": {"configured": len(pool.server), "out": pool.out()},
        "ledger": ledger,
    }


def limits_json(limits: Limits) -> JsonObject:
    """In the words of the environment's variables; null is unlimited."""
    return {"rpm": limits.requests, "tpm": limits.input_tokens, "ipm": limits.images, "rpd": limits.requests_per_day}
