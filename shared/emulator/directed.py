"""What a request's directives order: a fault, a wait, and the time after which its sender does not wait any more."""

from __future__ import annotations

import asyncio

from . import errors, faults, rejections
from .exchange import Aborted, Exchange
from .faults import BadDirective, Directives, Fault
from .server import Request

_MAX_SERVER_TIMEOUT_S = 3600.0


def directives_of(request: Request, prompt: str) -> Directives:
    """Directives of the header have precedence over those of the prompt."""
    try:
        said, sent = faults.from_prompt(prompt), faults.from_header(request.headers.get("x-emulator-fault"))
    except BadDirective as error:
        raise errors.invalid(str(error)) from None
    return Directives(
        sent.fault or said.fault,
        sent.latency_s if sent.latency_s is not None else said.latency_s,
        sent.words if sent.words is not None else said.words,
        sent.frames if sent.frames is not None else said.frames,
    )


async def fail(exchange: Exchange, fault: Fault) -> None:
    """Raises or hangs, for faults without a response."""
    if rejections.fails(fault):
        raise rejections.failure(fault)
    if fault.kind == "hang":
        await asyncio.sleep(min(faults.HANG_S, fault.seconds if fault.seconds is not None else faults.HANG_S))
        exchange.hang_up()
        raise Aborted
    if fault.kind == "reset":
        exchange.reset()
        raise Aborted


def deadline_s(request: Request) -> float | None:
    """When the caller's X-Server-Timeout (seconds, from arrival) ends. Invalid values are ignored, as Google does."""
    try:
        timeout_s = float(request.headers.get("X-Server-Timeout", ""))
    except ValueError:
        return None
    return request.arrived_s + timeout_s if 0 < timeout_s <= _MAX_SERVER_TIMEOUT_S else None
