"""The regular expressions of a schema, searched in time that is linear in the text, whatever the pattern. Pure.

RE2 has no lookahead and no back-references, and so no search without end; a schema that has them is refused. Alternatives:
`re` cannot be stopped ("(a|aa)+$" on 60 letters). The regex package has a timeout, but what it does before and beside the
search is not under it (measured: "(?:a{2000}){2000}" compiles for 2.6 s, "[x]" x 3000 takes 30 s on its first search).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

MAX_PATTERNS = 100
MAX_SIZE = 10_000
"""RE2 instructions of all patterns of a schema; a letter is about one."""
# Of one pattern, half for its program and half for what a search remembers.
_MAX_MEMORY_BYTES = 128 * 1024
# 512 characters times instructions take 2.5 us at worst, which is what a keyword takes.
_WORK_SHIFT = 9
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|.)", re.DOTALL)


class Patterns:
    """What was compiled, by its text."""

    def __init__(self) -> None:
        self._compiled: dict[str, Any] = {}
        self._size = 0

    def add(self, pattern: str) -> str | None:
        """What is wrong with it, as the end of a sentence; None when it is taken."""
        import re2  # type: ignore[import-not-found, import-untyped, unused-ignore]

        if pattern in self._compiled:
            return None
        try:
            compiled = re2.compile(_ESCAPE.sub(_as_re2, pattern), _options())
        except re2.error as error:
            # Its errors hold bytes.
            reason = error.args[0].decode(errors="replace") if error.args else ""
            return f"must be a regular expression, without lookaround and back-references: {reason[:100]}"
        self._size += compiled.programsize
        if self._size > MAX_SIZE or len(self._compiled) == MAX_PATTERNS:
            return f"is too much: all patterns together may be {MAX_PATTERNS}, of {MAX_SIZE} letters or repeats"
        self._compiled[pattern] = compiled
        return None

    def work(self, pattern: str, text: str) -> int:
        """What a search may cost, in keywords."""
        return 1 + (len(text) * int(self._compiled[pattern].programsize) >> _WORK_SHIFT)

    def search(self, pattern: str, text: str) -> bool:
        return self._compiled[pattern].search(text) is not None


def _as_re2(escape: re.Match[str]) -> str:
    """JSON Schema's patterns are ECMA-262, which writes \\u00e9 where RE2 writes \\x{00e9}."""
    return f"\\x{{{escape[1]}}}" if escape[1] else escape[0]


@cache
def _options() -> Any:
    import re2

    options = re2.Options()
    options.max_mem = _MAX_MEMORY_BYTES
    options.log_errors = False
    return options
