"""What differs between the responses of our own endpoints and those of an API that other programs' clients speak."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shared.errors import GatewayError
from shared.generation import Timeline
from shared.http.response import ErrorBody, RawHeaders, own_error_body


def _as_it_is(error: GatewayError) -> GatewayError:
    return error


def _none(error: GatewayError) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class ApiFormat:
    """The defaults are those of our own endpoints."""

    error_body: ErrorBody = own_error_body
    error_headers: Callable[[GatewayError], Mapping[str, str]] = _none
    """In addition to those of every error."""
    public_error: Callable[[GatewayError], GatewayError] = _as_it_is
    """The error that the API has in place of one of ours: with the status by which its clients know it."""
    headers: Callable[[Timeline, float], RawHeaders] | None = None
    """(timeline, seconds since the request came) -> the headers of every response about the generation, in place of
    `generation_headers`."""


OWN = ApiFormat()
