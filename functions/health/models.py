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


class Refused(BaseModel):
    """What Gemini's refusals taught about a model; null where nothing holds."""

    cooling_until: str | None = Field(description="Gemini refuses until then (UTC).")
    one_request_tries: bool = Field(
        description="The cool-down is over, and one request tries before the others follow."
    )
    learned_limits: dict[str, int] | None = Field(description="Limits that Gemini named below the configured ones.")
    learned_until: str | None
    outside_consumer: dict[str, Outside] | None = Field(
        description="By what is counted: requests, input_tokens, images."
    )
    debt_tokens: int = Field(description="Input tokens beyond what was reserved for them, ever.")


class Project(BaseModel):
    """A Google project of the server's, shown as the accounts that share it."""

    accounts: list[str]
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
