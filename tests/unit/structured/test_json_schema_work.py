"""What a check of a schema or of an answer may cost: work is charged before it is done, and no caller chooses collisions."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import BadRequest
from shared.structured.json_schema import QUICK_WORK, Problem, check_schema, document, patterns
from shared.structured.json_schema.document import MAX_SCHEMAS
from shared.structured.json_schema.numbers import canonical, loads
from shared.structured.json_schema.run import MAX_WORK, Run, current, key
from tests.unit.structured.json_schema_cases import DRAFT_7
from tests.unit.structured.test_json_schema import work

HASH_MODULUS = 2**61 - 1
TOO_COSTLY = "too costly to check"
MAX_CPU_S = 3.0
"""Ten times what is bearable; what these tests are against took 4 to 134 s."""


def cpu_s(done: Callable[[], Any]) -> float:
    before = time.thread_time()
    done()
    return time.thread_time() - before


def many_dynamic_references(extra: dict[str, Any]) -> dict[str, Any]:
    references = [{"$dynamicRef": "#n"}] * 3_400
    return {"items": {"allOf": references}, "contains": {"anyOf": [{"$dynamicAnchor": "n"}] * 1_900}, **extra}


@pytest.mark.parametrize("extra", [{}, {"not": {"pattern": "(?=a)"}}], ids=["searched", "unchecked pattern"])
def test_dynamic_references_are_not_paired_with_anchors(extra: dict[str, Any]) -> None:
    """The pairs are six million; references and anchors are 5,000."""
    schema = many_dynamic_references(extra)
    assert cpu_s(lambda: check_schema(schema)) < MAX_CPU_S
    assert bool(check_schema(schema).unchecked) == bool(extra)


def test_unchecked_keywords_are_found_through_dynamic_anchors() -> None:
    schema = {
        "$defs": {"a": {"$dynamicAnchor": "n", "pattern": "(?=a)"}},
        "items": {"oneOf": [{"$dynamicRef": "#n"}]},
    }
    assert check_schema(schema).unchecked == ["/$defs/a/pattern", "/items/oneOf"]


def test_a_document_has_a_bounded_number_of_schemas() -> None:
    check_schema({"allOf": [{}] * (MAX_SCHEMAS - 1)})
    with pytest.raises(BadRequest, match=r"at /allOf/0 exceeds the maximum of 10000 schemas"):
        check_schema({"allOf": [{}] * MAX_SCHEMAS})


@pytest.mark.parametrize(
    "within",
    [{"allOf": [{}] * 9_000}, {"patternProperties": {f"^{number}": True for number in range(4_000)}}],
    ids=["schemas", "patterns"],
)
def test_pointers_under_a_long_name_are_bounded(within: dict[str, Any]) -> None:
    """Each pointer repeats the name: 9,000 times 60 KB were half a gigabyte."""
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest, match=r"has names so long that the pointers .* shorten the names"):
            check_schema({"properties": {"x" * 60_000: within}})
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_many_moves_and_references_are_not_paired() -> None:
    """`nullable` moves a schema under anyOf; the references into it follow."""
    options = [
        {"nullable": True, "not": {"type": "null"}, "allOf": [{"$ref": f"#/allOf/{number}/not"}]}
        for number in range(1_500)
    ]
    checked: list[Any] = []
    assert cpu_s(lambda: checked.append(check_schema({"allOf": options}))) < MAX_CPU_S
    moved = checked[0].document["allOf"][7]["anyOf"][0]
    assert moved == {"not": {"type": "null"}, "allOf": [{"$ref": "#/allOf/7/anyOf/0/not"}]}


@pytest.mark.parametrize(
    "text", ["(a|b)" * 10_000, "(?i:" + r"[\p{L}]" * 140 + ")", r"[\p{L}]" * 140], ids=["long", "any case", "classes"]
)
def test_a_text_is_read_once_for_each_format(text: str) -> None:
    schema = check_schema({"allOf": [{"format": "regex"}] * 800}, assert_formats=True)
    assert cpu_s(lambda: schema.problems(text)) < MAX_CPU_S


def test_different_texts_in_a_costly_format_are_charged() -> None:
    texts = ["(?i:" + r"[\p{L}]" * 135 + f"{number})" for number in range(300)]
    spent, fault = work({"items": {"format": "regex"}}, texts, assert_formats=True)
    assert fault == TOO_COSTLY and spent > MAX_WORK


@pytest.mark.parametrize("form", ["date", "date-time", "duration", "email", "ipv4", "ipv6", "regex", "time", "uuid"])
def test_a_long_text_is_in_no_format(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read to find that out."""
    monkeypatch.setattr(patterns, "_parse", lambda _: pytest.fail("the text was read"))
    schema = check_schema({"format": form}, assert_formats=True)
    (problem,) = schema.problems("a@b" * 500)
    assert problem.message.startswith(f'must be in the format "{form}"')
    assert check_schema({"format": "other"}, assert_formats=True).problems("a@b" * 500) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"type": "integer"}] * 4_000},
        {"allOf": [{"minimum": 1.5}] * 4_000},
        {"allOf": [{"multipleOf": 0.5}] * 4_000},
        {"allOf": [{"enum": [1]}] * 4_000},
        {"allOf": [{"not": {"const": 1}}] * 4_000},
    ],
    ids=["type", "minimum", "multipleOf", "enum", "const"],
)
def test_digits_of_a_number_are_charged(schema: dict[str, Any]) -> None:
    number = loads("7" * 300_000)
    ready = check_schema(schema)
    assert cpu_s(lambda: ready.problems(number)) < MAX_CPU_S


def test_multiples_of_long_numbers() -> None:
    check = check_schema({"multipleOf": 0.03}).problems
    assert check(loads("3" * 3_000 + ".03")) == []
    assert len(check(loads("3" * 3_000 + ".031"))) == 1
    assert check_schema({"multipleOf": loads("1e-3900")}).problems(loads("7.5e-3890")) == []
    (problem,) = check(loads("0." + "3" * 5_000))
    assert "too many digits" in problem.message


def collisions(count: int) -> list[int]:
    """Numbers with the hash 0."""
    return [number * HASH_MODULUS for number in range(1, count + 1)]


@pytest.mark.parametrize(
    "values",
    [
        collisions(2_000),
        [[number] for number in collisions(2_000)],
        [{"a": number} for number in collisions(2_000)],
        [loads(f"0.{'0' * 20}{number}") for number in range(1_000, 3_000)],
    ],
    ids=["numbers", "lists", "objects", "decimals"],
)
def test_keys_of_chosen_values_do_not_collide(values: list[Any]) -> None:
    token = current.set(Run(document.Document({})))
    try:
        hashes = {hash(key(value)) for value in values}
    finally:
        current.reset(token)
    assert len(hashes) == len(values)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("1", "1.0", True),
        ("1", "true", False),
        ("0", "false", False),
        ("0", "-0.0", True),
        ('"true"', "true", False),
        ('"1"', "1", False),
        ("null", '"None"', False),
        ("1e5000", "10e4999", True),
        ("1e5000", "1e5001", False),
        ("0.10000000000000000000000001", "0.100000000000000000000000010", True),
        ("0.5", "5e-1", True),
        ('{"a":1,"b":2}', '{"b":2.0,"a":1}', True),
        ('{"a":1,"b":2}', '{"a":2,"b":1}', False),
        ("[1,2]", "[2,1]", False),
        ("[[1],2]", "[[1,2]]", False),
        ('["ab","c"]', '["a","bc"]', False),
        ("[]", "{}", False),
        ('["1"]', "[1]", False),
        ('["e"]', "[14]", False),
    ],
)
def test_keys_are_equal_exactly_for_equal_values(one: str, other: str, equal: bool) -> None:
    assert (check_schema({"uniqueItems": True}).problems([loads(one), loads(other)]) != []) is equal


def test_numbers_are_spelled_by_value() -> None:
    assert canonical(loads("100")) == canonical(loads("1e2")) == canonical(100.0)
    assert canonical(loads("1" + "0" * 5_000)) == canonical(loads("1e5000"))


@pytest.mark.parametrize(
    "word", ["dependentSchemas", "prefixItems", "$dynamicRef", "$dynamicAnchor", "minContains", "$defs"]
)
@pytest.mark.parametrize("value", [1, None, "a", [], [1], {"a": 1}, True], ids=str)
def test_keywords_of_another_draft_mean_nothing(word: str, value: Any) -> None:
    schema = check_schema({"$schema": DRAFT_7, word: value, "contains": {"pattern": "(?=a)"}, "oneOf": [{word: value}]})
    assert schema.problems(["b"]) == []


def test_a_quick_check_gives_up_early() -> None:
    schema = check_schema({"items": {"type": "string"}})
    assert schema.quick_problems(["a"]) == []
    assert schema.quick_problems([1]) == [Problem("/0", "must be a string, not 1")]
    assert schema.quick_problems(["a"] * QUICK_WORK) is None
    assert schema.problems(["a"] * QUICK_WORK) == []


def test_pointers_are_made_for_few_problems() -> None:
    deep: Any = [1] * 900
    for _ in range(200):
        deep = {"n" * 4: deep}
    schema = {"anyOf": [{"type": "string"}, {"additionalProperties": {"$ref": "#"}, "items": {"type": "string"}}]}
    ready = check_schema({"$defs": {}, **schema})
    assert cpu_s(lambda: ready.problems(deep)) < MAX_CPU_S
