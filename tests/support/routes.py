"""Paths that match endpoint.json's patterns."""

from __future__ import annotations

import re


def example_path(pattern: str, segment: str = "x", below: str | None = None) -> str:
    """A path that matches the pattern: with `segment` for each parameter, and `below` (else `segment`) for `*`."""
    return re.sub(r"\{\w+\}", segment, pattern).replace("*", segment if below is None else below)
