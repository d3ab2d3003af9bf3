"""Reads, compares and writes JSON numbers with their exact decimal value instead of as doubles. Pure.

orjson reads an integer of more than 64 bits as a double (123456789012345678901234 becomes 123456789012345680000000), rounds
long decimals and rejects 1e400. Here a number becomes an int; a float if the float's shortest decimal form is the number (and
it is below 2**53 if whole); otherwise a Decimal. So `==` and `hash` agree with the values across all three types.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from sys import getsizeof
from typing import Any

import orjson

MAX_DIGITS = 4_000
"""An integer with more digits becomes a Decimal: CPython converts at most 4,300 digits to int, in quadratic time."""
_MAX_EXACT_FLOAT = 2**53
# Slightly more than the work of a Decimal of MAX_DIGITS.
_MAX_SCALED_WORK = 20
_INT64, _UINT64 = -(2**63), 2**64 - 1
# Many digits or an exponent: a number that a double may not represent. A match within a string costs only time. Starting with
# a single character class makes the search four times as fast.
_MAY_BE_INEXACT = re.compile(r"[0-9.](?:[0-9.]{15}|[eE][+-]?[0-9])")
_PIECE = 256 * 1024
_OVERLAP = 15
"""A match has at most 16 characters, so one that starts at the end of a piece is found too."""


def loads(text: str) -> Any:
    """Parses JSON with exact numbers. Raises ValueError (a JSONDecodeError has the position).

    The last of several entries with the same name wins. Replace lone surrogates first; they may be rejected."""
    return loads_exact(text) if _may_be_inexact(text) else orjson.loads(text)


def _may_be_inexact(text: str) -> bool:
    """Searches piece by piece, because a search holds the interpreter: 30 MB of digits took 0.7 s."""
    return any(_MAY_BE_INEXACT.search(text, at, at + _PIECE + _OVERLAP) for at in range(0, len(text), _PIECE))


def loads_exact(text: str) -> Any:
    """The same as `loads`, without testing first whether orjson suffices: for a long text of mostly strings."""
    try:
        return json.loads(text, parse_int=_whole, parse_float=_fraction, parse_constant=_reject_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= MAX_DIGITS else Decimal(digits)


def _fraction(digits: str) -> int | float | Decimal:
    try:
        number = Decimal(digits)
    except InvalidOperation:
        raise ValueError(f"the exponent of {digits[:20]}… is too large") from None
    nearest = float(digits)
    if abs(nearest) < _MAX_EXACT_FLOAT or not nearest.is_integer():
        return nearest if Decimal(repr(nearest)) == number else number
    return int(number) if number.adjusted() < MAX_DIGITS and is_integer(number) else number


def _reject_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON value")


def is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def is_integer(value: object) -> bool:
    """Whether a value is an integer by the rules of JSON Schema: 1.0 and 1e2 are."""
    if isinstance(value, float):
        return value.is_integer()
    if isinstance(value, Decimal):
        # as_tuple would create a Python object for each digit.
        return value == value.to_integral_value()
    return isinstance(value, int) and not isinstance(value, bool)


def comparable(value: Any, other: Any) -> Any:
    """`value` in a type that compares exactly with `other`: beside a Decimal, a float stands for its decimal form."""
    return Decimal(repr(value)) if isinstance(value, float) and isinstance(other, Decimal) else value


def is_multiple(value: Any, step: Any) -> bool | None:
    """Compares the decimal values: 19.99 is a multiple of 0.01, although a division of floats has a remainder. None if a number
    has too many digits."""
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    scaled, scaled_step = _scaled(value), _scaled(step)
    if scaled is None or scaled_step is None:
        return None
    (digits, exponent), (step_digits, step_exponent) = scaled, scaled_step
    least = min(exponent, step_exponent)
    return bool(digits * 10 ** (exponent - least) % (step_digits * 10 ** (step_exponent - least)) == 0)


def _scaled(value: Any) -> tuple[int, int] | None:
    """(digits, exponent) with the value digits * 10**exponent; None for more digits than MAX_DIGITS."""
    if isinstance(value, int):
        return value, 0
    # Check the size first, because as_tuple creates a Python object for each digit.
    number = Decimal(repr(value)) if isinstance(value, float) else value
    if work(number) > _MAX_SCALED_WORK:
        return None
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or max(len(digits), abs(exponent)) > MAX_DIGITS:
        return None
    whole = int("".join(map(str, digits)))
    return -whole if sign else whole, exponent


def work(value: Any) -> int:
    """The cost of handling a number in units of work: 0 for a few digits, 1 for about every 200."""
    return 0 if isinstance(value, float) else getsizeof(value) >> 7


def canonical(value: Any) -> bytes:
    """A key that is equal exactly for numbers of equal value."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else value
    if isinstance(value, Decimal):
        mantissa, _, exponent = f"{value:e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{exponent}".encode()
    # Hexadecimal takes time that is linear in the digits.
    return (b"%x" % value) if isinstance(value, int) else repr(value).encode()


def writable(value: Any) -> Any:
    """The same JSON in types that orjson can write, which excludes Decimals and integers of more than 64 bits."""
    if isinstance(value, dict):
        return {name: writable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [writable(item) for item in value]
    if isinstance(value, Decimal) or (isinstance(value, int) and not _INT64 <= value <= _UINT64):
        return orjson.Fragment(str(value))
    return value
