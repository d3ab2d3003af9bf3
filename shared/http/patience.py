"""How long a caller waits for its answer, as its request says: our own header, else those that SDKs send unasked. Pure.

SDKs send, in seconds: google-genai `x-server-timeout`, openai-python `x-stainless-read-timeout`, openai-node
`x-stainless-timeout` (its milliseconds / 1000, rounded down). The two of openai are the longest silence that the client
accepts, not the longest stream: they end when the headers arrive (Node) or begin again with each byte (Python).
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
    """`timeout_s` bounds a whole answer. `stated`: the caller gave it. `of_silence`: of a stream, it bounds the time
    without a byte only."""

    timeout_s: float
    stated: bool = False
    of_silence: bool = False


def patience_of(headers: Mapping[str, str], longest_s: float) -> Patience:
    """Raises BadRequest for a x-request-timeout that cannot be kept. An SDK's header is capped at `longest_s`, and ignored
    where it is malformed: whoever uses the SDK may not know that it is sent."""
    text = headers.get(HEADER)
    if text is not None:
        timeout_s = _seconds(text)
        if not 0 < timeout_s <= longest_s:
            raise BadRequest(f"{HEADER} must be a number of seconds over 0, at most {longest_s:g}.", field=HEADER)
        return Patience(timeout_s, True)
    for name in SDK_HEADERS:
        text = headers.get(name)
        if text is not None and (timeout_s := _seconds(text)) > 0:
            return Patience(min(timeout_s, longest_s), True, name in _SILENCE_HEADERS)
    return Patience(longest_s)


def _seconds(text: str) -> float:
    """NaN, which is neither over nor under a bound, for what is not a number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
