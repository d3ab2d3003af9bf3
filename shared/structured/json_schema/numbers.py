"""JSON whose numbers keep their value: read, compared and written as they are spelled, not as doubles. Pure.

orjson reads an integer of more than 64 bits as a double (123456789012345678901234 becomes 123456789012345680000000), rounds
long decimals, and refuses 1e400. A number read here is an int; or a float where the float's own spelling is the number (and
below 2**53 if it is whole); or else a Decimal. So `==` and `hash` agree with the numbers' values whatever their types.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from sys import getsizeof
from typing import Any

import orjson

MAX_DIGITS = 4_000
"""An integer of more digits stays a Decimal: CPython converts at most 4,300 digits, in quadratic time."""
_MAX_EXACT_FLOAT = 2**53
# A little more than what a Decimal of MAX_DIGITS takes.
_MAX_SCALED_WORK = 20
_INT64, _UINT64 = -(2**63), 2**64 - 1
# Many digits, or an exponent: what a double may not hold. It is found in texts too, which costs only time. With one set
# of characters to begin with, the search takes a quarter of the time.
_MAY_BE_INEXACT = re.compile(r"[0-9.](?:[0-9.]{15}|[eE][+-]?[0-9])")
_PIECE = 256 * 1024
_OVERLAP = 15
"""A match has at most 16 characters, so one that starts at the end of a piece is found too."""


def loads(text: str) -> Any:
    """A JSON text as Python values. Raises ValueError (a JSONDecodeError names the place).

    Of two entries with one name the last counts. A lone surrogate may be refused; write it otherwise before."""
    return loads_exact(text) if _may_be_inexact(text) else orjson.loads(text)


def _may_be_inexact(text: str) -> bool:
    """Searches piece by piece, because a search holds the interpreter: 30 MB of digits took 0.7 s."""
    return any(_MAY_BE_INEXACT.search(text, at, at + _PIECE + _OVERLAP) for at in range(0, len(text), _PIECE))


def loads_exact(text: str) -> Any:
    """The same, without a look at whether orjson would do: for a long text that is mostly strings."""
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
    """Whether a value is a whole number, as JSON Schema counts: 1.0 and 1e2 are."""
    if isinstance(value, float):
        return value.is_integer()
    if isinstance(value, Decimal):
        # Not by as_tuple, which makes a Python object of each digit.
        return value == value.to_integral_value()
    return isinstance(value, int) and not isinstance(value, bool)


def comparable(value: Any, other: Any) -> Any:
    """`value`, to be compared with `other`: a float stands for its spelling, not for the double behind it."""
    return Decimal(repr(value)) if isinstance(value, float) and isinstance(other, Decimal) else value


def is_multiple(value: Any, step: Any) -> bool | None:
    """As the numbers are spelled: 19.99 is a multiple of 0.01, which a division of floats denies. None if one of them has
    too many digits to tell."""
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    scaled, scaled_step = _scaled(value), _scaled(step)
    if scaled is None or scaled_step is None:
        return None
    (digits, exponent), (step_digits, step_exponent) = scaled, scaled_step
    least = min(exponent, step_exponent)
    return bool(digits * 10 ** (exponent - least) % (step_digits * 10 ** (step_exponent - least)) == 0)


def _scaled(value: Any) -> tuple[int, int] | None:
    """(digits, exponent of ten) whose product is the number; None for more digits than MAX_DIGITS."""
    if isinstance(value, int):
        return value, 0
    # The size first: as_tuple makes a Python object of each digit.
    number = Decimal(repr(value)) if isinstance(value, float) else value
    if work(number) > _MAX_SCALED_WORK:
        return None
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or max(len(digits), abs(exponent)) > MAX_DIGITS:
        return None
    whole = int("".join(map(str, digits)))
    return -whole if sign else whole, exponent


def work(value: Any) -> int:
    """What looking at a number takes, in keywords: 0 for one of a few digits, 1 for each 200 or so."""
    return 0 if isinstance(value, float) else getsizeof(value) >> 7


def canonical(value: Any) -> bytes:
    """The same for numbers of equal value, and only for them."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else value
    if isinstance(value, Decimal):
        mantissa, _, exponent = f"{value:e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{exponent}".encode()
    # Hexadecimal takes time that is linear in the digits.
    return (b"%x" % value) if isinstance(value, int) else repr(value).encode()


def writable(value: Any) -> Any:
    """The same JSON for orjson, which writes no integer of more than 64 bits and no Decimal."""
    if isinstance(value, dict):
        return {name: writable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [writable(item) for item in value]
    if isinstance(value, Decimal) or (isinstance(value, int) and not _INT64 <= value <= _UINT64):
        return orjson.Fragment(str(value))
    return value
