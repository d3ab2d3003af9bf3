"""Which pattern of endpoint.json a request's path matches. Pure.

    /chat                         a literal path
    /api/accounts/{id}/toggle     a template: each `{name}` stands for one segment
    /image/*                      a wildcard: everything below a path

Precedence within a function: literal path, then template, then the longest wildcard. Between functions the literal prefix
decides, because a load balancer's URL map compares only that: a literal path goes to its function, every other path to the
function with the longest matching prefix (`Owners`).

A template's parameter is one segment, percent-decoded after the path was split, so `%2F` in it is a part of the value. It is
never empty, and never `.` or `..`: clients and proxies remove those (RFC 3986, 5.2.4).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote

_PARAMETER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_WILDCARD = "/*"
_DOT_SEGMENTS = frozenset({".", ".."})


class Match(NamedTuple):
    pattern: str
    path: str
    """The request's path, decoded, with repeated slashes joined outside of what `*` stands for."""
    parameters: Mapping[str, str]


class Routes:
    """The patterns of one function."""

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = list(patterns)
        self._literal = frozenset(pattern for pattern in patterns if is_literal(pattern))
        self._templates = [(pattern, pattern[1:].split("/")) for pattern in patterns if parameter_names(pattern)]
        self._wildcards = sorted((pattern for pattern in patterns if is_wildcard(pattern)), key=len, reverse=True)

    def match(self, path: str, raw_path: bytes = b"") -> Match | None:
        """`path` is percent-decoded; `raw_path` is as the client sent it, b"" if the server does not provide it."""
        compared = comparable(path, raw_path)
        if compared in self._literal:
            return Match(compared, joined(path, raw_path), {})
        if self._templates:
            segments = list(_segments(path, raw_path))
            for pattern, parts in self._templates:
                parameters = _parameters(parts, segments)
                if parameters is not None:
                    return Match(pattern, joined(path, raw_path), parameters)
        for pattern in self._wildcards:
            if compared.startswith(pattern[:-1]):
                return Match(pattern, _joined_before_wildcard(path, raw_path, pattern), {})
        return None


class Owners:
    """Which of several functions a path belongs to, decided as the URL map does. `functions` maps a name to patterns."""

    def __init__(self, functions: Mapping[str, Iterable[str]]) -> None:
        owners = {pattern: name for name, patterns in functions.items() for pattern in patterns}
        self._literal = {pattern: name for pattern, name in owners.items() if is_literal(pattern)}
        prefixes = {prefix_of(pattern): name for pattern, name in owners.items() if not is_literal(pattern)}
        self._prefixes = sorted(prefixes.items(), key=lambda item: len(item[0]), reverse=True)

    def owner(self, path: str, raw_path: bytes = b"") -> str | None:
        """The function's name; None if the path belongs to none."""
        compared = comparable(path, raw_path)
        name = self._literal.get(compared)
        if name is not None:
            return name
        return next((name for prefix, name in self._prefixes if compared.startswith(prefix)), None)


def is_wildcard(pattern: str) -> bool:
    return pattern.endswith(_WILDCARD)


def is_literal(pattern: str) -> bool:
    return "{" not in pattern and not is_wildcard(pattern)


def parameter_names(pattern: str) -> list[str]:
    return _PARAMETER.findall(pattern)


def prefix_of(pattern: str) -> str:
    """The start of every matching path: the pattern up to its first parameter or `*`. Terraform's `prefix` is the same."""
    return re.split(r"[{*]", pattern, maxsplit=1)[0]


def as_template(pattern: str) -> str:
    """The pattern in OpenAPI's notation."""
    return pattern.removesuffix(_WILDCARD) + "/{path}" if is_wildcard(pattern) else pattern


def pattern_fault(pattern: str) -> str | None:
    """What is wrong with a pattern, as the rest of a sentence; None if nothing is."""
    if not pattern.startswith("/"):
        return "must begin with /"
    segments = [] if pattern in ("/", _WILDCARD) else pattern.removesuffix(_WILDCARD)[1:].split("/")
    if "" in segments:
        return "must not have an empty segment, nor a slash at the end"
    if any("*" in segment for segment in segments):
        return "may have * only as its last segment"
    if any(("{" in segment or "}" in segment) and not _PARAMETER.fullmatch(segment) for segment in segments):
        return "must have each parameter as a whole segment, like /things/{thing_id}"
    names = parameter_names(pattern)
    if len(set(names)) < len(names):
        return "must not have two parameters with one name"
    if names and is_wildcard(pattern):
        return "must not have both parameters and *"
    return None


def ambiguous(one: str, other: str) -> bool:
    """Whether some path matches both patterns and neither takes precedence. A wildcard counts as a template with one more
    parameter: the specification could not tell them apart."""
    if is_literal(one) or is_literal(other):
        return one == other
    parts, others = as_template(one).split("/"), as_template(other).split("/")
    return len(parts) == len(others) and all(
        part == another or part.startswith("{") or another.startswith("{")
        for part, another in zip(parts, others, strict=True)
    )


def comparable(path: str, raw_path: bytes) -> str:
    """The path without a slash at its end and without repeated ones: a client joins a base URL that ends with a slash, and a
    path."""
    return joined(path, raw_path).rstrip("/") or "/"


def joined(path: str, raw_path: bytes) -> str:
    """The path with repeated slashes as one. Where a slash was percent-encoded, nobody can tell which of the decoded ones
    are separators, and the path is left as it is."""
    return single_slashes(path) if "//" in path and b"%2f" not in raw_path.lower() else path


def single_slashes(path: str) -> str:
    return re.sub("//+", "/", path)


def _joined_before_wildcard(path: str, raw_path: bytes, pattern: str) -> str:
    """What `*` stands for is kept: `/image//<name>` is not a name. A function whose `*` stands for the path of another API
    applies `single_slashes` to it."""
    if joined(path, raw_path) == path:
        return path
    before = pattern.removesuffix(_WILDCARD)
    found = re.match(re.escape(before).replace("/", "/+"), path)
    return before + path[found.end() :] if found else path


def _segments(path: str, raw_path: bytes) -> Iterator[str]:
    """The decoded segments, without empty ones."""
    if b"%" in raw_path:
        return (unquote(segment) for segment in raw_path.decode("latin-1").split("/") if segment)
    return (segment for segment in path.split("/") if segment)


def _parameters(parts: list[str], segments: list[str]) -> dict[str, str] | None:
    """The values of a template's parameters; None if it does not match."""
    if len(parts) != len(segments):
        return None
    values: dict[str, str] = {}
    for part, segment in zip(parts, segments, strict=True):
        if part.startswith("{"):
            if segment in _DOT_SEGMENTS:
                return None
            values[part[1:-1]] = segment
        elif part != segment:
            return None
    return values
