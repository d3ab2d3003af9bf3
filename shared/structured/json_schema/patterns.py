"""The regular expressions of a schema: parsed as ECMA-262, searched in time that is linear in the text. Pure.

`regress` decides whether a pattern is valid ECMA-262. It backtracks, so it never searches; RE2 does (ecma.py). A valid pattern
that RE2 cannot express, or that exceeds the limits here, is not an error: it is sent to Gemini, and the local check skips it.

Alternatives for the search: `re` cannot be interrupted ("(a|aa)+$" on 60 letters). The regex package has a timeout, but not for
compiling and preparing (measured: "(?:a{2000}){2000}" compiles for 2.6 s, "[x]" x 3000 takes 30 s on its first search).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from shared.structured.json_schema.ecma import Unsupported, needs_exact, translated

MAX_PATTERNS = 100
"""Maximum patterns of a schema that are searched for; the check skips the others."""
MAX_SIZE = 10_000
"""Maximum RE2 instructions of all patterns of a schema; a letter takes about one."""
MAX_PARSED = 10_000
"""Maximum characters of all parsed patterns of a schema: at most 0.1 s. Patterns beyond it are sent unparsed."""
MAX_FAILURES = 20
"""Maximum failed translations or compilations per schema; one takes up to 9 ms."""
# Per pattern: half for its program and half for the state of a search.
_MAX_MEMORY_BYTES = 128 * 1024
# 512 characters x instructions take at most 2.5 us, as one unit of work does.
_WORK_SHIFT = 9
# Flags within the pattern that ignore case. RE2 never gets these, but parsing a class then takes up to 0.2 ms, ten times as
# long.
_IGNORES_CASE = re.compile(r"\(\?[ms]*i")
_CASE_WEIGHT = 10
# Properties of strings, for the v flag only: parsing one takes 2 ms and 0.6 MB.
_STRING_PROPERTIES = ("RGI_", "Basic_Emoji")


class _Program:
    """A compiled pattern: a small program for most texts, and an exact one for the others (see ecma.translated)."""

    def __init__(self, pattern: str, unicode: bool) -> None:
        self._source = pattern, unicode
        plain, exact = (translated(pattern, exact=exact, unicode=unicode) for exact in (False, True))
        self._plain = _compiled(plain)
        self._exact = self._plain if exact == plain else None
        self._has_exact = True
        self.size = int(self._plain.programsize)

    def search(self, text: str) -> bool | None:
        """Whether the pattern matches; None if the text needs the exact program and that is too large."""
        program = self._plain
        if self._exact is not self._plain and needs_exact(text):
            program = self._exact_program()
        return None if program is None else program.search(text) is not None

    def _exact_program(self) -> Any:
        """The exact program, compiled at its first use."""
        if self._exact is None and self._has_exact:
            pattern, unicode = self._source
            try:
                self._exact = _compiled(translated(pattern, exact=True, unicode=unicode))
            except Unsupported:
                self._has_exact = False
        return self._exact


class Patterns:
    """The patterns of one schema, by their text."""

    def __init__(self) -> None:
        self._programs: dict[str, _Program | None] = {}
        self._searched = 0
        self._size = 0
        self._parsed = 0
        self._failures = 0

    def add(self, pattern: str) -> str | None:
        """Returns the error of an invalid pattern, as the end of a sentence. None if it is valid or too long to parse."""
        if pattern in self._programs:
            return None
        self._parsed += _parsed_weight(pattern)
        verdict = _Verdict() if self._parsed > MAX_PARSED else _parse(pattern)
        if verdict.fault:
            return f"must be a valid ECMA-262 (JavaScript) regular expression: {verdict.fault[:100]}"
        self._programs[pattern] = None
        if self._parsed <= MAX_PARSED and self._failures < MAX_FAILURES and self._searched < MAX_PATTERNS:
            self._compile(pattern, verdict.unicode)
        return None

    def is_searched(self, pattern: str) -> bool:
        """Whether the pattern is part of the local check."""
        return self._programs[pattern] is not None

    def work(self, pattern: str, text: str) -> int:
        """The maximum cost of a search in units of work."""
        program = self._programs[pattern]
        return 1 if program is None else 1 + (len(text) * program.size >> _WORK_SHIFT)

    def search(self, pattern: str, text: str) -> bool | None:
        """Whether the pattern matches; None if it cannot be searched for in this text."""
        program = self._programs[pattern]
        return None if program is None else program.search(text)

    def _compile(self, pattern: str, unicode: bool) -> None:
        try:
            program = _Program(pattern, unicode)
        except Unsupported:
            self._failures += 1
            return
        if self._size + program.size <= MAX_SIZE:
            self._programs[pattern] = program
            self._searched += 1
            self._size += program.size
        else:
            self._failures += 1


class _Verdict(NamedTuple):
    fault: str = ""
    """The error; empty if the pattern is valid."""
    unicode: bool = True
    """Whether the pattern is valid with the `u` flag."""


def _parsed_weight(pattern: str) -> int:
    return len(pattern) * (_CASE_WEIGHT if _IGNORES_CASE.search(pattern) else 1)


def is_regex(text: str) -> bool:
    """Whether a text has the format `regex`. The caller must bound its length."""
    return not _parse(text).fault


def regex_work(text: str) -> int:
    """The cost of `is_regex` in units of work."""
    return 1 + _parsed_weight(text)


def _parse(pattern: str) -> _Verdict:
    """A pattern is valid if it parses with the `u` flag, without flags, or with the `v` flag."""
    regress = _regress()
    if regress is None:
        return _Verdict()
    first = ""
    for flag in ("u", "", "v"):
        if flag == "v" and any(name in pattern for name in _STRING_PROPERTIES):
            return _Verdict(unicode=False)
        try:
            regress.Regex(pattern, flag)
        except regress.RegressError as error:
            first = first or str(error)
        else:
            return _Verdict(unicode=flag == "u")
    return _Verdict(first, unicode=False)


def _compiled(pattern: str) -> Any:
    """Raises Unsupported for a pattern that is too large."""
    import re2  # type: ignore[import-not-found, import-untyped, unused-ignore]

    try:
        return re2.compile(pattern, _options())
    except re2.error as error:
        # Its errors hold bytes.
        raise Unsupported(error.args[0].decode(errors="replace") if error.args else "") from None


@cache
def _regress() -> Any:
    """The parser; None on a platform without a wheel, where every pattern counts as valid."""
    try:
        import regress
    except ImportError:
        return None
    return regress


@cache
def _options() -> Any:
    import re2

    options = re2.Options()
    options.max_mem = _MAX_MEMORY_BYTES
    options.log_errors = False
    return options
