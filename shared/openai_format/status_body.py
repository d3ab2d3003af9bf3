"""The response of GET /v1/status, as the specification describes it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from shared.openai_format.model_bodies import Use


class Accounts(BaseModel):
    """The accounts that may serve the caller: the server's, or the caller's own key."""

    configured: int
    states: dict[str, int] = Field(
        description="How many accounts are AVAILABLE, COOLDOWN, TEMPORARILY_EXHAUSTED, FULLY_EXHAUSTED, FAILED_INIT or DISABLED, "
        "each for the model for which it can do most; UNKNOWN where the project's ledger was not read."
    )
    models: dict[str, dict[str, int]] = Field(
        description="How many accounts are in which state for a model, for models that some accounts cannot serve now."
    )
    out: dict[str, str] | None = Field(
        None, description="The accounts that cannot serve now, and why; only with the admin key."
    )


class Concurrency(BaseModel):
    """Concurrent requests, over all the projects."""

    limit: int
    held: int | None = Field(description="What instances hold now for their requests; null is unknown.")


class Queue(BaseModel):
    """Requests that wait in the instance that answered."""

    interactive: int
    batch: int


class Status(BaseModel):
    object: Literal["status"]
    status: Literal["healthy", "degraded"] = Field(
        description="degraded: the ledger is unavailable, so generation returns 503."
    )
    version: str
    accounts: Accounts
    concurrency: Concurrency
    models: dict[str, Use] = Field(description="By model, for those that the ledger counts.")
    queue: Queue
