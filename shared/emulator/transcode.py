"""Normalizes a request's JSON: accepts both letter cases, and rejects unknown names and wrong types in Google's words.

This is what Google's JSON-to-protobuf transcoder does in front of the method. The result has camelCase names, repeated
fields as lists, enums in upper case, numbers as numbers, and no nulls. A field of type `json` or `struct` is untouched.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import orjson

from .errors import GoogleError, bad_fields, invalid
from .fields import MESSAGES

_ONE, _MANY, _MAP = "one", "many", "map"
_API = "type.googleapis.com/google.ai.generativelanguage"
_SCALARS = {"string": "TYPE_STRING", "int": "TYPE_INT32", "number": "TYPE_FLOAT", "bool": "TYPE_BOOL"}
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    proto_name: str
    shape: str
    type: str
    values: frozenset[str] = frozenset()


def _field(name: str, spec: str) -> _Field:
    shape = {"[": _MANY, "{": _MAP}.get(spec[0], _ONE)
    inner = spec if shape == _ONE else spec[1:-1]
    values = frozenset(inner.removeprefix("Enum:").split()) if inner.startswith("Enum:") else frozenset()
    return _Field(name, _snake(name), shape, "enum" if values else inner, values)


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), name)


def _compiled() -> dict[str, dict[str, _Field]]:
    table: dict[str, dict[str, _Field]] = {}
    for message, specs in MESSAGES.items():
        known = [_field(name, spec) for name, spec in specs.items()]
        table[message] = {field.name: field for field in known} | {field.proto_name: field for field in known}
    return table


_TABLE = _compiled()


def read_message(
    body: bytes, message: str, version: str, *, unknown: Set[tuple[str, str]] = frozenset()
) -> dict[str, Any]:
    """The normalised message of a body. `unknown`: fields of messages that this API does not have. Raises GoogleError 400."""
    if not body.strip():
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed(error) from None
    if not isinstance(document, dict):
        raise bad_fields([("", 'Invalid JSON payload received. Unknown name "": Root element must be a message.')])
    reader = _Reader(version, unknown)
    try:
        result = reader.message(message, document, "")
    except RecursionError:
        raise invalid("Invalid JSON payload received. Message too deep. Max recursion depth reached.") from None
    if reader.violations:
        raise bad_fields(reader.violations)
    return result


def _malformed(error: orjson.JSONDecodeError) -> GoogleError:
    lines = error.doc.splitlines()
    if error.pos >= len(error.doc) or not lines:
        return invalid("Invalid JSON payload received. Unexpected end of string. Expected a value.\n\n^")
    line = lines[min(error.lineno, len(lines)) - 1]
    start = max(0, error.colno - 20)
    return invalid(
        f"Invalid JSON payload received. Unexpected token.\n{line[start : error.colno + 20]}\n"
        f"{' ' * max(0, error.colno - 1 - start)}^"
    )


class _Reader:
    """Walks a document along the message table and collects what is wrong with it."""

    def __init__(self, version: str, unknown: Set[tuple[str, str]]) -> None:
        self.violations: list[tuple[str, str]] = []
        self._version, self._not_here = version, unknown

    def message(self, message: str, value: dict[str, Any], path: str) -> dict[str, Any]:
        known = _TABLE[message]
        result: dict[str, Any] = {}
        for name, item in value.items():
            field = known.get(name)
            if field is None or (message, field.name) in self._not_here:
                self._unknown(name, path, "Cannot find field.")
            elif item is None:
                continue
            elif field.shape == _ONE and isinstance(item, list) and field.type != "json":
                self._unknown(name, path, "Proto field is not repeating, cannot start list.")
            else:
                result[field.name] = self._shaped(field, item, message, f"{path}.{field.proto_name}".lstrip("."))
        return result

    def _shaped(self, field: _Field, value: Any, message: str, path: str) -> Any:
        if field.shape == _MANY:
            # The transcoder accepts a single value for a repeated field.
            items = value if isinstance(value, list) else [value]
            return [self._single(field, item, message, f"{path}[{index}]") for index, item in enumerate(items)]
        if field.shape == _MAP and isinstance(value, dict):
            return {
                key: self._single(field, item, message, f"{path}[{index}].value")
                for index, (key, item) in enumerate(value.items())
            }
        if field.shape == _MAP:
            return self._invalid(path, f"{_API}.{self._version}.{message}.{field.name.capitalize()}Entry", value)
        return self._single(field, value, message, path)

    def _single(self, field: _Field, value: Any, message: str, path: str) -> Any:
        kind = field.type
        if kind == "json":
            return value
        if kind in _TABLE or kind == "struct":
            if not isinstance(value, dict):
                name = "type.googleapis.com/google.protobuf.Struct" if kind == "struct" else self._type_url(kind)
                return self._invalid(path, name, value)
            return value if kind == "struct" else self.message(kind, value, path)
        if kind == "enum":
            if isinstance(value, str) and value.upper() in field.values:
                return value.upper()
            return self._invalid(path, self._type_url(f"{message}.{field.name[:1].upper()}{field.name[1:]}"), value)
        if kind == "bytes":
            return self._bytes(value, path)
        scalar = _scalar(kind, value)
        return scalar if scalar is not None else self._invalid(path, _SCALARS[kind], value)

    def _bytes(self, value: Any, path: str) -> Any:
        if isinstance(value, str):
            raw = value.encode().translate(_URL_SAFE).rstrip(b"=")
            try:
                binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
            except binascii.Error:
                shown = value if len(value) <= 60 else value[:60] + "..."
                text = f"Invalid value at '{path}' (TYPE_BYTES), Base64 decoding failed for \"{shown}\""
                self.violations.append((path, text))
            return value
        return self._invalid(path, "TYPE_BYTES", value)

    def _unknown(self, name: str, path: str, why: str) -> None:
        where = f" at '{path}'" if path else ""
        self.violations.append((path, f'Invalid JSON payload received. Unknown name "{name}"{where}: {why}'))

    def _invalid(self, path: str, type_name: str, value: Any) -> None:
        shown = orjson.dumps(value).decode()
        shown = shown if len(shown) <= 200 else shown[:200] + "..."
        parent = path.rpartition(".")[0]
        self.violations.append((parent or path, f"Invalid value at '{path}' ({type_name}), {shown}"))

    def _type_url(self, name: str) -> str:
        return f"{_API}.{self._version}.{'Type' if name == 'Schema.Type' else name}"


def _scalar(kind: str, value: Any) -> Any:
    """The value as the kind, or None when it is not one. Numbers may come as strings, as protobuf's JSON allows."""
    if kind == "string":
        return value if isinstance(value, str) else None
    if kind == "bool":
        return {"true": True, "false": False}.get(str(value).lower()) if isinstance(value, bool | str) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    if kind == "number":
        return number
    return int(number) if number.is_integer() and abs(number) < 2**63 else None
