"""Reads single variables of the environment; a wrong one is one sentence: its name, what was given, what is allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from shared.ledger.limits import Limit
from shared.secret import Secret

_SHOWN_CHARS = 60


class SettingsError(Exception):
    """The environment is wrong. The message is one sentence for the operator; it never holds a secret."""


def limit_from(value: object) -> Limit:
    """A limit as a person writes it: a whole number, or `unlimited` (None). Raises ValueError."""
    if isinstance(value, str):
        text = value.strip()
        if text.lower() == "unlimited":
            return None
        if not (text.isascii() and text.isdigit()):
            raise ValueError
        return int(text)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError
    return value


class Environment:
    """One reader per kind of value. A variable that is empty or blank counts as not set."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def names(self) -> list[str]:
        return [name for name in self._values if self.text(name) is not None]

    def text(self, name: str) -> str | None:
        return self._values.get(name, "").strip() or None

    def refuse(self, name: str, allowed: str, *, shown: bool = True) -> SettingsError:
        """The error to raise for `name`. `shown=False` where the value may hold a secret."""
        given = repr((self.text(name) or "")[:_SHOWN_CHARS]) if shown else "not valid"
        return SettingsError(f"{name} is {given}; it must be {allowed}.")

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and minimum <= int(text) <= maximum):
            raise self.refuse(name, f"a whole number from {minimum} to {maximum}")
        return int(text)

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        text = self.text(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not minimum <= value <= maximum:
            raise self.refuse(name, f"a number from {minimum:g} to {maximum:g}")
        return value

    def limit(self, name: str, default: Limit) -> Limit:
        text = self.text(name)
        if text is None:
            return default
        try:
            return limit_from(text)
        except ValueError:
            raise self.refuse(name, "a whole number (0 is really zero) or `unlimited`") from None

    def choice(self, name: str, default: str, allowed: Mapping[str, str]) -> str:
        """`allowed` maps what may be written (in lower case) to what it means."""
        text = self.text(name)
        if text is None:
            return default
        if text.lower() not in allowed:
            raise self.refuse(name, f"one of {', '.join(allowed)}")
        return allowed[text.lower()]

    def secret(self, name: str, text: str, minimum_chars: int) -> Secret:
        """`text` (the variable, or an item of it) as a credential that can travel in an HTTP header."""
        if not (minimum_chars <= len(text) <= 4096 and text.isascii() and text.isprintable() and " " not in text):
            raise self.refuse(name, f"printable ASCII without spaces, {minimum_chars} to 4096 characters", shown=False)
        return Secret(text)

    def items(self, name: str) -> tuple[str, ...]:
        return tuple(item.strip() for item in (self.text(name) or "").split(",") if item.strip())

    def json_object(self, name: str, example: str) -> dict[str, Any]:
        text = self.text(name)
        if text is None:
            return {}
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise self.refuse(name, f"a JSON object like {example} ({error.msg} at character {error.pos})") from None
        if not isinstance(value, dict):
            raise self.refuse(name, f"a JSON object like {example}")
        return value
