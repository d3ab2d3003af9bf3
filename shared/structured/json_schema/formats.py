"""The formats that are checked; all others are annotations. Pure.

jsonschema's own set depends on the installed packages, so tests and the deployment could differ. These formats need no package;
`date-time`, `time` and `duration` are implemented here, because Gemini supports them
(ai.google.dev/gemini-api/docs/structured-output names date-time, date, time).
"""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from typing import Any

from shared.structured.json_schema.patterns import is_regex, regex_work

MAX_TEXT = 1_000
"""Maximum characters of a text in one of these formats; a longer text does not conform."""
_BY_JSONSCHEMA = ("date", "email", "idn-email", "ipv4", "ipv6", "uuid")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII | re.I)
_DURATION = re.compile(r"P(?=.)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?)", re.ASCII)


def work(form: str, text: str) -> int:
    """The cost of `conforms` in units of work."""
    if len(text) > MAX_TEXT:
        return 1
    return regex_work(text) if form == "regex" else 1 + (len(text) >> 6)


def conforms(checker: Any, form: str, text: str) -> bool:
    """Whether a text has a format; True for every format that is not checked."""
    if form not in checker.checkers:
        return True
    return len(text) <= MAX_TEXT and bool(checker.conforms(text, form))


@cache
def checker() -> Any:
    """A FormatChecker; a format applies to strings only."""
    from jsonschema import FormatChecker  # type: ignore[import-untyped]

    result = FormatChecker(_BY_JSONSCHEMA)
    for name, is_right in {
        "date-time": _is_date_time,
        "time": _is_time,
        "duration": _is_duration,
        "regex": _is_regex,
    }.items():
        result.checks(name, raises=ValueError)(is_right)
    return result


def _is_date_time(value: object) -> bool:
    """RFC 3339, section 5.6."""
    if not isinstance(value, str):
        return True
    return value[10:11] in ("T", "t", " ") and bool(date.fromisoformat(value[:10])) and _is_time(value[11:])


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or _TIME.fullmatch(value) is not None


def _is_duration(value: object) -> bool:
    """RFC 3339, appendix A, and fractions of a second."""
    return not isinstance(value, str) or _DURATION.fullmatch(value) is not None


def _is_regex(value: object) -> bool:
    return not isinstance(value, str) or is_regex(value)
