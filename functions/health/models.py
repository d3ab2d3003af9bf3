"""The response of GET /health, which `shared.ops.health` makes; these models only document it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from shared.openapi.document import Operation


class Limits(BaseModel):
    """Limits of one model in one Google project; null is unlimited."""

    rpm: int | None = Field(description="Requests per minute.")
    tpm: int | None = Field(description="Input tokens per minute.")
    ipm: int | None = Field(description="Images per minute.")
    rpd: int | None = Field(description="Requests per day.")


class AllLimits(BaseModel):
    default: Limits
    models: dict[str, Limits] = Field(description="Models whose limits differ from the default.")


class SameProject(BaseModel):
    """Keys that are configured as several Google projects and belong to one."""

    accounts: list[str]
    message: str = Field(description="The setting to change.")


class Accounts(BaseModel):
    """The server's Gemini keys."""

    configured: int
    out: dict[str, str] = Field(
        description="Keys that cannot serve now, and why: account and key_invalid until an operator acts, restricted for "
        "ten minutes at a time."
    )
    same_project: list[SameProject] = Field(
        description="Keys whose limits are counted separately although they share a project."
    )


class Outside(BaseModel):
    """Another consumer seems to use the same quota."""

    since: str = Field(description="When it was first suspected (UTC).")
    usable: int = Field(description="The part of the limit per minute that is used until the limit recovers.")


class Stopped(BaseModel):
    """Requests are stopped until one probe request succeeds."""

    kind: Literal["rate", "day", "zero", "spend", "lower"] = Field(
        description="rate: a quota per minute; day: the daily quota; zero: no quota at all; spend: the project's spending limit."
    )
    message: str = Field(description="Google's own words.")
    until: str = Field(description="When the probe request is sent (UTC).")
    state: Literal["open", "half-open"] = Field(
        description="half-open: the probe request is running; other requests wait for its result."
    )


class Learned(BaseModel):
    """A limit that Gemini reported below the configured one."""

    named: int
    usable: int | None = Field(description="The part that is used now.")
    message: str = Field(description="Google's own words.")
    tested_at: str = Field(description="When one request more is sent to test whether the limit still holds (UTC).")
    state: Literal["open", "half-open", "rising"]


class Refused(BaseModel):
    """What Gemini's rejections say about a model's limits; null if there were none."""

    stopped: Stopped | None
    learned_limits: dict[str, Learned] | None = Field(
        description="Limits that Gemini reported below the configured ones, by requests, input_tokens, images, requests_per_day."
    )
    outside_consumer: dict[str, Outside] | None = Field(description="By dimension: requests, input_tokens, images.")
    debt_tokens: int = Field(description="Total of input tokens used beyond their reservations.")


class Project(BaseModel):
    """One of the server's Google projects, named by the accounts that share it."""

    accounts: list[str]
    stopped: Stopped | None = Field(description="All models are stopped by the project's spending limit.")
    models: dict[str, Refused] = Field(description="Models with a limit or a stop to report.")
    reason: str | None = Field(None, description="Why the state is unknown; absent otherwise.")


class Ledger(BaseModel):
    """The store of the limits' use."""

    kind: Literal["memory", "sqlite", "firestore"]
    reachable: bool = Field(
        description="Whether it could be read (and, where that costs nothing, written) within the last 5 s."
    )
    reason: str | None = Field(None, description="Why it cannot be read or written; absent while it can.")
    projects: list[Project] | None = Field(
        None, description="The first 20 projects; absent while it cannot be reached."
    )


class Answer(BaseModel):
    status: Literal["healthy", "degraded"] = Field(
        description="degraded: the ledger is unreachable, so generation returns 503."
    )
    message: str
    version: str
    concurrency_limit: int = Field(description="Maximum concurrent requests to Gemini per Google project.")
    tier: str
    limits: AllLimits
    models: list[str] = Field(
        description="Known models. Any other Gemini model id is passed on, with the default limits."
    )
    accounts: Accounts
    ledger: Ledger


_READY = Operation(Answer)
OPERATIONS = {
    "GET /health": _READY,
    "GET /": Operation(Answer, summary="The same as /health."),
}
