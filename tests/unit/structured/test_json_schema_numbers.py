"""Numbers are read, compared and sent as they are canonical, not as doubles."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadRequest
from shared.structured.json_schema import check_schema, numbers
from shared.structured.json_schema.numbers import MAX_DIGITS, is_integer, is_multiple, loads, loads_exact, writable

BIG = 123456789012345678901234


@pytest.mark.parametrize(
    ("text", "value", "whole"),
    [
        ("123456789012345678901234", BIG, True),
        ("-9223372036854775809", -9223372036854775809, True),
        ("18446744073709551616", 2**64, True),
        ("1.0", 1.0, True),
        ("1e2", 100.0, True),
        ("1.5e1", 15.0, True),
        ("-0", 0, True),
        ("-0.0", -0.0, True),
        ("1e23", 10**23, True),
        ("9007199254740993.0", 9007199254740993, True),
        ("9007199254740993", 9007199254740993, True),
        ("0.1", 0.1, False),
        ("0.1000000000000000055511151231257827", Decimal("0.1000000000000000055511151231257827"), False),
        ("1e400", 10**400, True),
        ("1e-400", Decimal("1e-400"), False),
        ("1e5000", Decimal("1e5000"), True),
        ("-1e1000000", Decimal("-1e1000000"), True),
        ("9" * 5_000, Decimal("9" * 5_000), True),
        ("9" * MAX_DIGITS, 10**MAX_DIGITS - 1, True),
        ("0e999999999", 0, True),
    ],
    ids=lambda item: str(item)[:30] if isinstance(item, str) else "",
)
def test_number_keeps_its_value(text: str, value: Any, whole: bool) -> None:
    assert loads(text) == value
    assert loads(f'{{"a": [{text}]}}') == {"a": [value]}
    assert is_integer(loads(text)) is whole
    assert hash(loads(text)) == hash(value)


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "[1e2, NaN]", "01", "1.", ".5", "1e", "+1", "1e9" * 9]
)
def test_what_is_not_json_is_refused(text: str) -> None:
    for reader in (loads, loads_exact):
        with pytest.raises(ValueError):
            reader(text)


def test_absurd_exponent_and_absurd_depth_are_refused() -> None:
    for text in ("1e999999999999999999999", "[" * 200_000 + "1e2" + "]" * 200_000, "[" * 200_000 + "]" * 200_000):
        with pytest.raises(ValueError):
            loads(text)


def test_last_of_two_entries_counts() -> None:
    assert loads('{"a": 1, "a": 2}') == loads('{"a": 1e0, "a": 2}') == {"a": 2}


NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?\Z")


@settings(max_examples=500, deadline=None, database=None)
@given(first=NUMBERS, second=NUMBERS)
def test_comparison_is_that_of_decimals(first: str, second: str) -> None:
    value, exact, bound, other = loads(first), Decimal(first), loads(second), Decimal(second)
    given_schemas: list[tuple[dict[str, Any], bool]] = [
        ({"minimum": bound}, exact >= other),
        ({"exclusiveMinimum": bound}, exact > other),
        ({"maximum": bound}, exact <= other),
        ({"exclusiveMaximum": bound}, exact < other),
        ({"const": bound}, exact == other),
        ({"enum": [bound]}, exact == other),
        ({"type": "integer"}, exact == exact.to_integral_value() if exact.adjusted() < 20 else True),
    ]
    for schema, expected in given_schemas:
        if schema.get("type") and exact.adjusted() >= 20 and exact.as_tuple().exponent < 0:  # type: ignore[operator]
            continue
        assert (check_schema(schema).problems(value) == []) == expected, schema
    assert (check_schema({"uniqueItems": True}).problems([value, bound]) == []) == (exact != other)


@pytest.mark.parametrize(
    ("value", "step", "expected"),
    [
        ("19.99", "0.01", True),
        ("12345678901234567.89", "0.01", True),
        ("12345678901234567.891", "0.01", False),
        ("123456789012345678901235", "5", True),
        ("123456789012345678901234", "5", False),
        ("1e400", "3", False),
        ("0.3", "0.1", True),
        ("9" * 5_000, "3", None),
        ("1e-5000", "0.1", None),
        ("1e1000000", "3", None),
    ],
    ids=lambda item: str(item)[:20],
)
def test_multiple_is_exact(value: str, step: str, expected: bool | None) -> None:
    assert is_multiple(loads(value), loads(step)) is expected
    problems = check_schema({"multipleOf": loads(step)}).problems(loads(value))
    assert (problems == []) is (expected is True)
    assert ("too many digits" in str(problems)) is (expected is None)


def test_long_numbers_are_quoted_briefly() -> None:
    for text in ("9" * 3_000, "9" * 9_000, "1e9999", "1" * 9_000 + ".5"):
        for schema in ({"type": "string"}, {"maximum": 1}, {"enum": [1]}, {"multipleOf": 7}, {"const": 1}):
            for problem in check_schema(schema).problems(loads(text)):
                assert len(problem.message) <= 200


def test_counts_of_any_size_are_taken() -> None:
    assert check_schema({"minLength": 10**400}).problems("a")[0].message.startswith("must have at least 1000000")
    assert check_schema({"minItems": 1e6}).problems([])[0].message == "must have at least 1000000 items, not 0"
    assert check_schema({"type": "array", "minItems": 10**30, "items": {}}).problems(["a"])
    with pytest.raises(BadRequest, match="must be a whole number from 0"):
        check_schema({"maxLength": Decimal("1e5000")})


def test_schema_with_large_numbers_is_sent_with_its_digits() -> None:
    source = b'\xef\xbb\xbf{"json_schema": {"maximum": 123456789012345678901234, "enum": [1e400, 0.12345678901234567891, 1.0]}}'
    exact = loads_exact(source.decode("utf-8-sig"))["json_schema"]
    schema = check_schema({"maximum": float(BIG), "enum": [1, 0.1, 1.0]}, source=source)
    assert (
        orjson.dumps(schema.document)
        == b'{"maximum":123456789012345678901234,"enum":[1E+400,0.12345678901234567891,1.0]}'
    )
    assert schema.problems(exact["enum"][1]) == []
    assert schema.problems(0.1) != []
    nullable = check_schema({"type": "integer", "maximum": BIG, "nullable": True})
    assert orjson.dumps(nullable.document) == b'{"type":["integer","null"],"maximum":123456789012345678901234}'


def test_source_is_read_only_for_numbers_that_may_have_changed() -> None:
    assert check_schema({"maximum": 2**63}, source=b"not read").problems(1) == []
    with pytest.raises(BadRequest, match="a number that cannot be read"):
        check_schema({"maximum": 0.0}, source=b'{"json_schema": {"maximum": 1e-9999999999999999999999}}')


def test_writable_keeps_what_orjson_writes() -> None:
    values = [1, -(2**63), 2**64 - 1, 1.5, True, None, "x", {"a": [1]}]
    assert writable(values) == values
    assert (
        orjson.dumps(writable([2**64, -(2**63) - 1, Decimal("1.50")]))
        == b"[18446744073709551616,-9223372036854775809,1.50]"
    )
    assert json.loads(orjson.dumps(writable({"a": [BIG]}))) == {"a": [BIG]}


@pytest.mark.parametrize("number", [BIG, "1e400", "0.1000000000000000055511151231257827"])
@pytest.mark.parametrize("shift", range(-40, 4))
def test_an_inexact_number_between_two_pieces(number: Any, shift: int) -> None:
    """A long text is searched piece by piece; a number that starts in one and ends in the next must be found."""
    blank = " " * (numbers._PIECE + shift)
    assert loads(f"{blank}{number}") == loads(str(number))
    assert not isinstance(loads(f"{blank}{number}"), float)
