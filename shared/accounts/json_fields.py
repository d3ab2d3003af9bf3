"""Reads the fields of a JSON object that a person wrote. A wrong field is one sentence with its path, not its value. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shared.errors import json_type

MAX_NAME_CHARS = 100
MIN_COOKIE_CHARS, MAX_COOKIE_CHARS = 10, 4_096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,99}")


class FieldReader:
    """Reads the fields of one object. A wrong field adds a sentence to `problems`, and is read as its default."""

    def __init__(self, path: str, fields: Mapping[str, Any], problems: list[str]) -> None:
        self.path, self.fields, self._problems = path, fields, problems

    def wrong(self, name: str, is_: str, allowed: str) -> None:
        self._problems.append(f"{self.path}{name} {is_}; it must be {allowed}.")

    def switch(self, name: str, *, default: bool) -> bool:
        value = self.fields.get(name, default)
        if isinstance(value, bool):
            return value
        self.wrong(name, f"is {json_type(value)}", "true or false")
        return default

    def text(self, name: str, maximum: int, *, required: bool, lines: bool = False) -> str:
        """A text without control characters; `lines` allows line breaks and tabs."""
        value = self.fields.get(name)
        if value is None and not required:
            return ""
        allowed = f"a text of {1 if required else 0} to {maximum:,} characters"
        if name not in self.fields:
            self.wrong(name, "is missing", allowed)
        elif not isinstance(value, str):
            self.wrong(name, f"is {json_type(value)}", allowed)
        elif required and not value.strip():
            self.wrong(name, "is empty", allowed)
        elif len(value) > maximum:
            self.wrong(name, f"has {len(value):,} characters", allowed)
        elif not _is_plain(value, lines=lines):
            self.wrong(name, "has control characters", f"{allowed}, without control characters")
        else:
            return value
        return ""

    def name(self, name: str) -> str:
        value = self.text(name, MAX_NAME_CHARS, required=True).strip()
        if value and not _NAME.fullmatch(value):
            allowed = "1 to 100 letters, digits, '.', '_', ':' and '-', and begin with a letter or a digit"
            self.wrong(name, "has other characters", allowed)
            return ""
        return value

    def cookie(self, name: str) -> str:
        value = self.text(name, MAX_COOKIE_CHARS, required=False).strip()
        if value and len(value) < MIN_COOKIE_CHARS:
            self.wrong(name, f"has fewer than {MIN_COOKIE_CHARS} characters", "the value of the cookie")
        elif value.isascii() and not any(mark in value for mark in ' ;,"\\'):
            return value
        else:
            self.wrong(name, "has characters that a cookie cannot have", "the value of the cookie alone")
        return ""

    def number(self, name: str) -> None:
        value = self.fields.get(name)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value >= 0):
            return
        self.wrong(name, f"is {json_type(value)}" if not isinstance(value, int | float) else "is negative", "0 or more")

    def objects(self, name: str, maximum: int, *, required: bool = False) -> list[FieldReader]:
        value = self.fields.get(name)
        if value is None and not required:
            return []
        if not isinstance(value, list):
            is_ = f"is {json_type(value)}" if name in self.fields else "is missing"
            self.wrong(name, is_, "a list of objects")
            return []
        if len(value) > maximum:
            self.wrong(name, f"has {len(value):,} entries", f"a list of at most {maximum:,} objects")
            return []
        readers = []
        for index, item in enumerate(value):
            if isinstance(item, dict):
                readers.append(FieldReader(f"{self.path}{name}[{index}].", item, self._problems))
            else:
                self.wrong(f"{name}[{index}]", f"is {json_type(item)}", "an object")
        return readers

    def rest(self, known: tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name, value in self.fields.items() if name not in known}


def _is_plain(text: str, *, lines: bool = False) -> bool:
    return not any(char < " " or "\x7f" <= char <= "\x9f" for char in text if not (lines and char in "\n\r\t"))
