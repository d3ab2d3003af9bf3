"""The responses of the model paths, as the specification describes them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Limits(BaseModel):
    """Over all the Google projects that serve the caller; null is unlimited. A limit that Gemini reported below the configured
    one replaces it."""

    rpm: int | None = Field(description="Requests per minute.")
    tpm: int | None = Field(description="Input tokens per minute.")
    ipm: int | None = Field(description="Images per minute.")
    rpd: int | None = Field(description="Requests per day.")


class Used(BaseModel):
    """What all instances have reported to the ledger, up to 5 s ago; null is unknown."""

    rpm: int | None = Field(description="Requests in the last minute.")
    tpm: int | None = Field(description="Input tokens in the last minute.")
    ipm: int | None = Field(description="Images in the last minute.")
    rpd: int | None = Field(description="Requests since midnight Pacific time.")


class Use(BaseModel):
    limits: Limits
    used: Used


class Model(Use):
    id: str = Field(examples=["gemini-3.8-flash"])
    object: Literal["model"]
    created: int = Field(
        description="When Google released the model (Unix time), where that is known.", examples=[1788307200]
    )
    owned_by: str = Field(examples=["google"])
    served_by: str = Field(description="The model that serves this id: another one if this id is an alias, or retired.")
    context_window: int | None = Field(description="Maximum input tokens; null if unknown.", examples=[1048576])


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[Model]
