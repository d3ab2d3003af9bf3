"""Builders of generateContent bodies. Pure."""

from __future__ import annotations

from typing import Any

from shared.generation import JsonObject


def turn(role: str, text: str) -> JsonObject:
    """One entry of `contents`."""
    return {"role": role, "parts": [{"text": text}]}


def native_body(
    contents: list[Any],
    system_prompt: str | None = None,
    config: JsonObject | None = None,
    safety: list[JsonObject] | None = None,
) -> JsonObject:
    """A generateContent body without empty parts."""
    body: JsonObject = {"contents": contents}
    if system_prompt and system_prompt.strip():
        body["systemInstruction"] = {"parts": [{"text": system_prompt}]}
    if config:
        body["generationConfig"] = config
    if safety:
        body["safetySettings"] = safety
    return body
