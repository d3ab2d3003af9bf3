"""Where OpenTelemetry spans are sent: the standard's variables, OTEL_*."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from shared.secret import Secret
from shared.settings.environment import Environment

_OTLP_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where OpenTelemetry spans are sent, and the share of requests that are sampled if their trace context does not decide."""

    url: str
    """Trace requests (OTLP over HTTP) are posted to it. Without credentials."""
    headers: tuple[tuple[str, Secret], ...]
    service_name: str
    ratio: float


def read_tracing(read: Environment, default_name: str) -> Tracing | None:
    """The standard's names (opentelemetry.io/docs/specs/otel/protocol/exporter); the sampler is parentbased_traceidratio."""
    general = _otlp_url(read, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    traces = _otlp_url(read, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4318/v1/traces")
    headers = tuple(_otlp_header(read, item) for item in read.items(_OTLP_HEADERS))
    service_name = read.text("OTEL_SERVICE_NAME") or read.text("K_SERVICE") or default_name
    ratio = read.number("OTEL_TRACES_SAMPLER_ARG", 1.0, 0.0, 1.0)
    url = traces or (f"{general.rstrip('/')}/v1/traces" if general else None)
    return Tracing(url, headers, service_name, ratio) if url else None


def _otlp_url(read: Environment, name: str, example: str) -> str | None:
    text = read.text(name)
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # The port is not a number, or an IPv6 address lacks its bracket.
        known = False
    if not known or any(mark in text for mark in "@?# "):
        allowed = f"a URL like {example}, without credentials or a query; credentials go into {_OTLP_HEADERS}"
        raise read.invalid(name, allowed, shown=False)
    return text


def _otlp_header(read: Environment, item: str) -> tuple[str, Secret]:
    name, _, value = item.partition("=")
    name, value = name.strip(), unquote(value.strip())
    if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", name) or not re.fullmatch(r"[\x20-\x7e]{1,4096}", value):
        raise read.invalid(
            _OTLP_HEADERS, "a list like api-key=abc,x-team=gateway, its values percent-encoded", shown=False
        )
    return name, Secret(value)
