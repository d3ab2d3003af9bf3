"""Thought signatures: each backend signs its own, and rejects those of the other one in Google's words. Pure."""

from __future__ import annotations

from typing import Any, Literal

from .errors import invalid

Backend = Literal["gemini", "vertex"]
_STARTS: dict[Backend, str] = {"gemini": "EtgB", "vertex": "CtoB"}
_REJECTIONS: dict[Backend, str] = {"gemini": "Corrupted thought signature.", "vertex": "Invalid thought signature."}


def signed(seed: int, backend: Backend) -> str:
    """An opaque signature, as Google's are: base64 of bytes without a public meaning."""
    return f"{_STARTS[backend]}{seed & 0xFFFFFFFF:08x}{~seed & 0xFFFFFFFF:08x}AdHtim9f"


def check_signatures(contents: list[dict[str, Any]], backend: Backend) -> None:
    """Raises GoogleError 400 for a signature that another backend made. What no backend made passes, like the placeholder."""
    foreign = tuple(start for other, start in _STARTS.items() if other != backend)
    for content in contents:
        for part in content["parts"]:
            if part.get("thoughtSignature", "").startswith(foreign):
                raise invalid(_REJECTIONS[backend])
