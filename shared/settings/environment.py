"""Reads single variables of the environment. A wrong value is one sentence: its name, its value, what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import orjson

from shared.ledger.limits import Limit
from shared.secret import QUOTES, Secret, credential_fault

MIN_KEY_CHARS = 10
_SHOWN_CHARS = 60
_SEPARATORS = re.compile(r"[\s,;|]+")


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
        return [name for name in self._values if self._raw(name)]

    def text(self, name: str) -> str | None:
        """The value without surrounding white space; None if it is not set. Raises SettingsError for a quoted value: a shell
        and .env remove quotes, `docker --env-file` and a console's form do not."""
        text = self._raw(name)
        if len(text) > 1 and text[0] in QUOTES and text[-1] in QUOTES:
            raise SettingsError(f"{name} is in quotes, which would be part of its value; set it without them.")
        return text or None

    def _raw(self, name: str) -> str:
        return self._values.get(name, "").strip()

    def invalid(self, name: str, allowed: str, *, shown: bool = True) -> SettingsError:
        """The error to raise for `name`. `shown=False` where the value may hold a secret."""
        given = repr(self._raw(name)[:_SHOWN_CHARS]) if shown else "not valid"
        return SettingsError(f"{name} is {given}; it must be {allowed}.")

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and minimum <= int(text) <= maximum):
            raise self.invalid(name, f"a whole number from {minimum} to {maximum}")
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
            raise self.invalid(name, f"a number from {minimum:g} to {maximum:g}")
        return value

    def limit(self, name: str, default: Limit) -> Limit:
        text = self.text(name)
        if text is None:
            return default
        try:
            return limit_from(text)
        except ValueError:
            raise self.invalid(name, "a whole number (0 allows nothing) or `unlimited`") from None

    def choice(self, name: str, default: str, allowed: Mapping[str, str]) -> str:
        """`allowed` maps each accepted spelling, in lower case, to its value."""
        text = self.text(name)
        if text is None:
            return default
        if text.lower() not in allowed:
            raise self.invalid(name, f"one of {', '.join(allowed)}")
        return allowed[text.lower()]

    def secret(self, name: str, text: str, minimum_chars: int) -> Secret:
        """`text` (the variable, or an item of it) as a credential that can travel in an HTTP header."""
        fault = credential_fault(text)
        if fault is not None:
            raise SettingsError(f"{name} {fault}.")
        if not (minimum_chars <= len(text) <= 4096 and text.isascii() and text.isprintable() and " " not in text):
            raise self.invalid(name, f"printable ASCII without spaces, {minimum_chars} to 4096 characters", shown=False)
        return Secret(text)

    def gemini_key(self, name: str) -> Secret | None:
        """One Gemini key. Several keys go into numbered variables."""
        text = self.text(name)
        if text is None:
            return None
        parts = [part for part in _SEPARATORS.split(text) if part]
        if credential_fault(text) is None and len(parts) > 1 and all(len(part) >= MIN_KEY_CHARS for part in parts):
            raise SettingsError(
                f"{name} holds {len(parts)} keys; it must be one. Set each in a variable of its own: "
                "GEMINI_API_KEY_1, GEMINI_API_KEY_2 and so on."
            )
        if re.search(r"[,;|]", text):
            raise self.invalid(name, "one key, without commas, semicolons or bars", shown=False)
        return self.secret(name, text, MIN_KEY_CHARS)

    def items(self, name: str) -> tuple[str, ...]:
        return tuple(item.strip() for item in (self.text(name) or "").split(",") if item.strip())

    def json_object(self, name: str, example: str) -> dict[str, Any]:
        text = self.text(name)
        if text is None:
            return {}
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise self.invalid(name, f"a JSON object like {example} ({error.msg} at character {error.pos})") from None
        if not isinstance(value, dict):
            raise self.invalid(name, f"a JSON object like {example}")
        return value
