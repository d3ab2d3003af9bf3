"""Describes the response of GET /health, which `shared.ops.health` builds."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from shared.openapi.operation import Operation


class Limits(BaseModel):
    """The limits of one model in one Google project; null is unlimited."""

    rpm: int | None = Field(description="Requests per minute.")
    tpm: int | None = Field(description="Input tokens per minute.")
    ipm: int | None = Field(description="Images per minute.")
    rpd: int | None = Field(description="Requests per day.")


class AllLimits(BaseModel):
    default: Limits
    models: dict[str, Limits] = Field(description="Models whose limits differ from the default.")


class SameProject(BaseModel):
    """Keys that are configured as different Google projects, but belong to the same one."""

    accounts: list[str]
    message: str = Field(description="The setting to change.")


class Accounts(BaseModel):
    """The server's Gemini keys."""

    configured: int = Field(
        description="All accounts: those of the environment and the stored ones, disabled ones too."
    )
    out: dict[str, str] = Field(
        description="Accounts that cannot serve now, with the reason: `account` and `key_invalid` last until a person acts, "
        "`restricted` is retried every ten minutes."
    )
    states: dict[str, int] = Field(
        description="How many accounts are AVAILABLE, COOLDOWN, TEMPORARILY_EXHAUSTED, FULLY_EXHAUSTED, FAILED_INIT or DISABLED, "
        "as `python -m shared.accounts states` shows them for all models; UNKNOWN where the project's ledger was not read."
    )
    models: dict[str, dict[str, int]] = Field(
        description="How many accounts are in which state for a model, where that is not the state of the account."
    )
    same_project: list[SameProject] = Field(
        description="Keys of one Google project that are configured as keys of several."
    )


class Outside(BaseModel):
    """Another consumer seems to use the same quota."""

    since: str = Field(description="When it was first suspected (UTC).")
    usable: int = Field(description="The part of the limit per minute that this gateway uses meanwhile; it recovers.")


class Stopped(BaseModel):
    """No request is sent until one probe request has succeeded."""

    kind: Literal["rate", "day", "zero", "spend", "lower"] = Field(
        description="rate: a quota per minute; day: the daily quota; zero: no quota at all; spend: the project's spending limit."
    )
    message: str = Field(description="Google's own words.")
    until: str = Field(description="When the probe request is sent (UTC).")
    state: Literal["open", "half-open"] = Field(
        description="half-open: the probe request is under way; others wait for its result."
    )


class Learned(BaseModel):
    """A limit that Gemini reported and that is lower than the configured one."""

    named: int
    usable: int | None = Field(description="The limit that the gateway applies now.")
    message: str = Field(description="Google's own words.")
    tested_at: str = Field(description="When one more request is sent to test whether the limit still holds (UTC).")
    state: Literal["open", "half-open", "rising"]


class Refused(BaseModel):
    """What Gemini's 429 responses revealed about a model; null where nothing applies now."""

    stopped: Stopped | None
    learned_limits: dict[str, Learned] | None = Field(
        description="Limits that Gemini reported below the configured ones, by dimension: requests, input_tokens, images, "
        "requests_per_day."
    )
    outside_consumer: dict[str, Outside] | None = Field(description="By dimension: requests, input_tokens, images.")
    debt_tokens: int = Field(description="Total input tokens that exceeded their reservations.")


class Project(BaseModel):
    """One of the server's Google projects, identified by the accounts that share it."""

    accounts: list[str]
    stopped: Stopped | None = Field(description="Set while the project's spending limit stops all models.")
    models: dict[str, Refused] = Field(description="Only models with something to report.")
    reason: str | None = Field(None, description="Why the state cannot be read; absent otherwise.")


class Ledger(BaseModel):
    """The store that holds the limits' state."""

    kind: Literal["memory", "sqlite", "firestore"]
    reachable: bool = Field(
        description="Whether it can be read and, where writing is free, written; checked up to 5 s ago."
    )
    reason: str | None = Field(None, description="Why it cannot be read or written; absent while it can.")
    projects: list[Project] | None = Field(
        None, description="The first 20 projects; absent while the ledger is unreachable."
    )


class Answer(BaseModel):
    status: Literal["healthy", "degraded"] = Field(
        description="degraded: the ledger is unavailable, so generation returns 503."
    )
    message: str
    version: str
    concurrency_limit: int = Field(description="Maximum concurrent requests per Google project.")
    tier: str
    limits: AllLimits
    models: list[str] = Field(
        description="Known models. Any other Gemini model id is passed on, with the default limits."
    )
    accounts: Accounts
    ledger: Ledger
    client_address: str | None = Field(
        None, description="The caller's address as this function sees it; only with a valid Admin-API-Key."
    )


_READY = Operation(Answer)
OPERATIONS = {
    "GET /health": _READY,
    "GET /": Operation(Answer, summary="The same as /health."),
}
