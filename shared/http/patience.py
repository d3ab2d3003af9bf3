"""The caller's timeout: from our own header, else from the headers that SDKs send by default. Pure.

SDKs send seconds: google-genai `x-server-timeout`, openai-python `x-stainless-read-timeout`, openai-node
`x-stainless-timeout` (milliseconds / 1000, rounded down). OpenAI's two limit the silence that the client accepts, not the
duration of a stream: the timer ends with the headers (Node) or restarts with each byte (Python).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from shared.errors import BadRequest

HEADER = "x-request-timeout"
_TOTAL_HEADERS = ("x-server-timeout",)
_SILENCE_HEADERS = ("x-stainless-read-timeout", "x-stainless-timeout")
SDK_HEADERS = (*_TOTAL_HEADERS, *_SILENCE_HEADERS)


class Patience(NamedTuple):
    """`timeout_s` limits the whole response. `stated`: it is from the caller. `of_silence`: for a stream, it limits only the
    time without a byte."""

    timeout_s: float
    stated: bool = False
    of_silence: bool = False


def patience_of(headers: Mapping[str, str], max_s: float) -> Patience:
    """Raises BadRequest for an invalid x-request-timeout. An SDK's header is capped at `max_s`, and ignored if it is
    malformed: the SDK's user may not know that it is sent."""
    text = headers.get(HEADER)
    if text is not None:
        timeout_s = _seconds(text)
        if not 0 < timeout_s <= max_s:
            raise BadRequest(f"{HEADER} must be a number of seconds, above 0 and at most {max_s:g}.", field=HEADER)
        return Patience(timeout_s, True)
    for name in SDK_HEADERS:
        text = headers.get(name)
        if text is not None and (timeout_s := _seconds(text)) > 0:
            return Patience(min(timeout_s, max_s), True, name in _SILENCE_HEADERS)
    return Patience(max_s)


def _seconds(text: str) -> float:
    """NaN if the text is not a number; NaN fails every comparison."""
    try:
        return float(text)
    except ValueError:
        return math.nan
