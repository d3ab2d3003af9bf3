"""What GET /health answers: a description. `shared.ops.health` makes it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from shared.openapi.operation import Operation


class Limits(BaseModel):
    """Of one model in one Google project; null is unlimited."""

    rpm: int | None = Field(description="Requests per minute.")
    tpm: int | None = Field(description="Input tokens per minute.")
    ipm: int | None = Field(description="Images per minute.")
    rpd: int | None = Field(description="Requests per day.")


class AllLimits(BaseModel):
    default: Limits
    models: dict[str, Limits] = Field(description="Models with limits of their own.")


class SameProject(BaseModel):
    """Keys that are configured as several Google projects and turned out to be of one."""

    accounts: list[str]
    message: str = Field(description="What to set.")


class Accounts(BaseModel):
    """The server's Gemini keys."""

    configured: int
    out: dict[str, str] = Field(
        description="Those that cannot serve now, and why: account and key_invalid until somebody acts, restricted for "
        "ten minutes at a time."
    )
    same_project: list[SameProject] = Field(description="Keys whose limits are counted apart and should not be.")


class Outside(BaseModel):
    """Somebody else seems to spend the same quota."""

    since: str = Field(description="When that was first suspected (UTC).")
    usable: int = Field(description="What is used of the limit per minute meanwhile; it recovers.")


class Stopped(BaseModel):
    """Nothing is sent until Gemini is asked again with one request."""

    kind: Literal["rate", "day", "zero", "spend", "lower"] = Field(
        description="rate: a quota per minute; day: the daily quota; zero: no quota at all; spend: what the project spends."
    )
    message: str = Field(description="Google's own words.")
    until: str = Field(description="When Gemini is asked again (UTC).")
    state: Literal["open", "half-open"] = Field(
        description="half-open: one request asks; the others wait for its result."
    )


class Learned(BaseModel):
    """A limit that Gemini named below the configured one."""

    named: int
    usable: int | None = Field(description="What is used by now.")
    message: str = Field(description="Google's own words.")
    tested_at: str = Field(description="From then on one request more is sent, to see whether it still holds (UTC).")
    state: Literal["open", "half-open", "rising"]


class Refused(BaseModel):
    """What Gemini's refusals taught about a model; null where nothing holds."""

    stopped: Stopped | None
    learned_limits: dict[str, Learned] | None = Field(
        description="Limits that Gemini named below the configured ones, by requests, input_tokens, images, requests_per_day."
    )
    outside_consumer: dict[str, Outside] | None = Field(
        description="By what is counted: requests, input_tokens, images."
    )
    debt_tokens: int = Field(description="Input tokens beyond what was reserved for them, ever.")


class Project(BaseModel):
    """A Google project of the server's, shown as the accounts that share it."""

    accounts: list[str]
    stopped: Stopped | None = Field(description="All models are stopped for what the project spends.")
    models: dict[str, Refused] = Field(description="Those of which there is something to say.")
    reason: str | None = Field(None, description="Why nothing is known; absent otherwise.")


class Ledger(BaseModel):
    """Where the limits are kept."""

    kind: Literal["memory", "sqlite", "firestore"]
    reachable: bool = Field(
        description="Whether it could be read and, where that costs nothing, written; up to 5 s ago."
    )
    reason: str | None = Field(None, description="Why it cannot be read or written; absent while it can.")
    projects: list[Project] | None = Field(
        None, description="The first 20 projects; absent while it cannot be reached."
    )


class Answer(BaseModel):
    status: Literal["healthy", "degraded"] = Field(
        description="degraded: the ledger cannot be used, so generation answers 503."
    )
    message: str
    version: str
    concurrency_limit: int = Field(description="Exchanges open at once per Google project.")
    tier: str
    limits: AllLimits
    models: list[str] = Field(
        description="Those that the gateway knows. Any other Gemini model's id is passed on, with the default limits."
    )
    accounts: Accounts
    ledger: Ledger


_READY = Operation(Answer)
OPERATIONS = {
    "GET /health": _READY,
    "GET /": Operation(Answer, summary="The same as /health, where nothing else is asked for."),
}
