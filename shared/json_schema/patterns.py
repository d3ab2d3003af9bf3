"""The regular expressions of a schema, bounded: in what compiling them costs, and in the CPU time they search. Pure.

A backtracking search can take forever: `(a|aa)+$` on 60 letters. The regex package is the one that can be stopped (its
timeout counts CPU time, and so do we); RE2 would need no clock, but it has no lookahead, which callers do use.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import thread_time
from typing import Any

MAX_SIZE = 20_000
"""Characters that all patterns of a schema stand for, counted repeats written out: 40 ms of compiling, at most."""
SEARCH_S = 0.25
"""CPU seconds of all searches of one validation; an ordinary one takes 3 us."""

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d*),?\d*\}|.", re.DOTALL)
# Comments could hide a bracket from the count of `size`; JSON Schema's own dialect (ECMA-262) has none.
_COMMENTS = re.compile(r"\(\?(?:#|[a-zA-Z]*x)")


class TooSlow(Exception):
    """The searches of a validation have used up SEARCH_S."""


def size(pattern: str) -> int:
    """How many characters a pattern has when each `x{1000}` is written out, which is what compiling it does."""
    totals = [0]
    last = 0
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text == "(":
            totals.append(0)
            last = 0
        elif text == ")" and len(totals) > 1:
            last = totals.pop() + 2
            totals[-1] += last
        elif token[1]:
            # No number is so long that reading it takes time.
            count = int(token[1][:9])
            totals[-1] += last * max(count - 1, 0)
            last *= max(count, 1)
        else:
            last = len(text)
            totals[-1] += last
    return sum(totals)


class Patterns:
    """What was compiled, by its text."""

    def __init__(self) -> None:
        self._compiled: dict[str, Any] = {}
        self._room = MAX_SIZE

    def add(self, pattern: str) -> str | None:
        """What is wrong with it, as the end of a sentence; None when it is taken."""
        if pattern in self._compiled:
            return None
        if _COMMENTS.search(pattern):
            return "must be a regular expression without comments"
        self._room -= size(pattern)
        if self._room < 0:
            return f"is too large: all patterns, repeats like x{{1000}} written out, may have {MAX_SIZE} characters"
        compiled = compile_pattern(pattern)
        if isinstance(compiled, str):
            return f"must be a regular expression: {compiled}"
        self._compiled[pattern] = compiled
        return None

    def searches(self) -> Callable[[str, str], bool]:
        """`search(pattern, text)` for one validation. It raises TooSlow."""
        left_s = SEARCH_S

        def search(pattern: str, text: str) -> bool:
            nonlocal left_s
            started_s = thread_time()
            try:
                return self._compiled[pattern].search(text, timeout=max(left_s, 0.001)) is not None
            except TimeoutError:
                raise TooSlow(pattern) from None
            finally:
                left_s -= thread_time() - started_s

        return search


def compile_pattern(pattern: str) -> Any:
    """The compiled pattern, or a text that says why it cannot be."""
    import regex  # type: ignore[import-untyped]

    try:
        return regex.compile(pattern, regex.V0, cache_pattern=False)
    except regex.error as error:
        return str(error)
    except (RecursionError, OverflowError, ValueError):
        return "it is nested too deeply, or a number in it is too large"
