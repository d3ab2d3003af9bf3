"""What GET /health answers: a description. `shared.health` makes it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from shared.openapi import Operation


class Limits(BaseModel):
    """Of one model in one Google project; null is unlimited."""

    rpm: int | None = Field(description="Requests per minute.")
    tpm: int | None = Field(description="Input tokens per minute.")
    ipm: int | None = Field(description="Images per minute.")
    rpd: int | None = Field(description="Requests per day.")


class AllLimits(BaseModel):
    default: Limits
    models: dict[str, Limits] = Field(description="Models with limits of their own.")


class Accounts(BaseModel):
    """The server's Gemini keys."""

    configured: int
    out: dict[str, str] = Field(description="Those that cannot serve until somebody acts, and why.")


class Ledger(BaseModel):
    """Where the limits are kept."""

    kind: Literal["memory", "sqlite", "firestore"]
    reachable: bool
    reason: str | None = Field(None, description="Why it cannot be reached; absent while it can.")


class Answer(BaseModel):
    status: Literal["healthy", "degraded"] = Field(description="degraded: the ledger cannot be reached.")
    message: str
    version: str
    concurrency_limit: int = Field(description="Exchanges open at once per Google project.")
    tier: str
    limits: AllLimits
    models: list[str]
    accounts: Accounts
    ledger: Ledger


_READY = Operation(Answer)
OPERATIONS = {
    "GET /health": _READY,
    "GET /": Operation(Answer, summary="The same as /health, where nothing else is asked for."),
}
