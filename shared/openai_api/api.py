"""How every response of OpenAI's API differs from those of our own endpoints: its errors, and its headers."""

from __future__ import annotations

from shared.generation import Timeline
from shared.http.api_format import ApiFormat
from shared.http.response import RawHeaders, model_headers
from shared.openai_format.errors import error_body, error_headers, with_openai_status
from shared.openai_format.rate_headers import rate_headers


def _headers(timeline: Timeline, took_s: float) -> RawHeaders:
    headers = model_headers(timeline)
    if headers:
        headers += rate_headers(timeline.rate)
    headers.append((b"openai-processing-ms", b"%d" % (1000 * took_s)))
    return headers


OPENAI = ApiFormat(error_body, error_headers, with_openai_status, _headers)
