"""Patterns: what ECMA-262 allows is taken, what RE2 can search for is checked, and the rest is listed as unchecked."""

from __future__ import annotations

from typing import Any

import pytest
import re2
import regress
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.errors import BadRequest
from shared.structured.json_schema import _compiled as _schema_cache
from shared.structured.json_schema import check_schema, patterns
from shared.structured.json_schema.ecma import Unsupported, needs_exact, translated
from shared.structured.json_schema.patterns import MAX_FAILURES, MAX_PARSED, MAX_PATTERNS, Patterns, is_regex
from shared.structured.json_schema.unchecked import MAX_FRAGMENTS, MAX_HEADER_BYTES, fragments

LOOKAHEAD = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"
"""As pydantic writes it for a Decimal."""


def refusal(schema: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        check_schema(schema)
    return caught.value


# --- what is taken


@pytest.mark.parametrize(
    "pattern",
    [
        LOOKAHEAD,
        "^(?=.*[a-z]).{8,}$",
        "(?<=a)b",
        "(?<!a)b",
        r"(a)\1",
        r"(?<year>\d{4})-\k<year>",
        "^.{1,1024}$",
        "a{1000000}",
        "(?:a{200}){200}",
        "((((ab{30}){30}){30}){30})",
        r"\p{L}{999}",
        r"[\p{L}--[a-z]]",
        r"\p{Script_Extensions=Greek}",
        r"\p{Cn}",
        "(?i:a)",
        r"\B",
        r"^[\ud800-\udbff]$",
        r"\1",
        "x" * 50_000,
    ],
    ids=lambda pattern: pattern[:30],
)
def test_unsearchable_pattern_is_taken(pattern: str) -> None:
    """A pattern that RE2 cannot search for is Gemini's to honour: the schema is taken, and any text conforms to it."""
    schema = check_schema({"properties": {"a": {"type": "string", "pattern": pattern}}})
    assert schema.unchecked == ["/properties/a/pattern"]
    assert schema.problems({"a": "whatever 1"}) == []
    assert [problem.path for problem in schema.problems({"a": 1})] == ["/a"]


@pytest.mark.parametrize(
    "pattern", ["(", "[a", "a{2,1}", "*a", "a**", "(?P<a>x)", "(?#x)", "(?>a)", "\\", "(" * 9_999, "[z-a]"]
)
@pytest.mark.parametrize("place", ["pattern", "patternProperties", "propertyNames"])
def test_invalid_pattern_is_refused(pattern: str, place: str) -> None:
    schema, pointer = {
        "pattern": ({"pattern": pattern}, "/pattern"),
        "patternProperties": ({"patternProperties": {pattern: {}}}, f"/patternProperties/{pattern}"),
        "propertyNames": ({"propertyNames": {"pattern": pattern}}, "/propertyNames/pattern"),
    }[place]
    error = refusal({"$defs": {"a": schema}})
    assert error.details == {"field": "json_schema", "pointer": f"/$defs/a{pointer}"}
    assert "must be a valid ECMA-262 (JavaScript) regular expression: " in error.message
    assert len(error.message) < 400


def test_without_the_parser_every_pattern_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a platform without a wheel of regress, RE2 checks what it can and the rest passes unchecked."""
    monkeypatch.setattr(patterns, "_regress", lambda: None)
    table = Patterns()
    for pattern, is_searched in (("^a$", True), (LOOKAHEAD, False), ("(", False), (r"\p{L}", True)):
        assert table.add(pattern) is None
        assert table.is_searched(pattern) is is_searched
    assert table.search("^a$", "b") is False


# --- what a search decides


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (r"^\u00e9$", "é", "e"),
        (r"^\\u00e9$", "\\u00e9", "é"),
        (r"^\d+$", "12", "12\n"),
        (r"^\d$", "1", "٣"),
        (r"^\p{Lu}", "Éa", "éa"),
        (r"^\p{Letter}$", "é", "1"),
        (r"^\p{Script=Greek}$", "α", "a"),
        (r"^[\p{L}\d]+$", "é1", "é-1"),
        (r"^(?<year>\d{4})\/\d", "2026/1", "2026-1"),
        ("^😀$", "😀", "x"),
        ("^.$", "😀", "ab"),
        (r"^\u{1F600}$", "😀", "x"),
        (r"^\ud83d\ude00$", "😀", "x"),
        (r"^a.b$", "a\u00a0b", "a\rb"),
        (r"^a.b$", "a\x85b", "a\u2028b"),
        (r"^\s$", "\ufeff", "\x85"),
        (r"^\s$", "\u00a0", "\u180e"),
        (r"^\S$", "\u180e", "\u3000"),
        (r"^[^\s]$", "a", "\u2003"),
        (r"^[\S]$", "a", "\v"),
        (r"^\w+$", "a_1", "é"),
        (r"^a\b", "a é", "a1"),
        (r"^[\b]$", "\x08", "b"),
        (r"^\cJ\cj$", "\n\n", "JJ"),
        (r"^\0$", "\0", "0"),
        (r"^\v\f\t$", "\v\f\t", "vft"),
        (r"^[\w.-]+@a\.b$", "x-y.z@a.b", "x y@a.b"),
        (r"^a\-\_\@$", "a-_@", "a-@"),
        (r"^[\w-.]$", "-", "@"),
        ("^{a}]$", "{a}]", "a"),
        ("^a{,2}$", "a{,2}", "aa"),
        ("^[^]$", "\n", ""),
        ("^[[]$", "[", "]"),
        ("^(?:|a)$", "", "b"),
        (r"^[+--]$", ",", "."),
        ("A", "A", "a"),
    ],
)
def test_search_follows_ecma_262(pattern: str, right: str, wrong: str) -> None:
    schema = check_schema({"pattern": pattern})
    assert schema.unchecked == []
    assert schema.problems(right) == []
    assert len(schema.problems(wrong)) == 1


ATOMS = [
    *("a", "B", ".", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", "[ab]", "[^ab]", "[a-z]", r"[\s\S]", r"[^\s]", r"[^\S]"),
    *(
        r"[\w-]",
        r"[\b]",
        r"\cA",
        r"\0",
        r"\x41",
        r"\u0041",
        r"\u{1F600}",
        r"\ud83d\ude00",
        "😀",
        "é",
        r"\p{L}",
        r"\P{L}",
    ),
    *(
        r"[\p{N}\s]",
        r"[^\p{L}]",
        "[]",
        "[^]",
        r"\.",
        r"\$",
        r"\t",
        r"\v",
        r"\n",
        r"\r",
        r"\b",
        "^",
        "$",
        "(?:a|b)",
        "(a)",
    ),
    *(
        "(?<n>b)",
        "a|",
        r"[\]\\]",
        "[-a]",
        "[a-]",
        r"[\-a]",
        "[+--]",
        r"[\W\d]",
        r"\p{ASCII}",
        r"\p{Any}",
        "(?:)",
        "-",
        " ",
    ),
]
TEXTS = st.text(
    st.sampled_from(
        [*"abBzZ019_-. $\\]\t\n\r\v\f\0\x01\x08", *"\u2028\u2029\ufeff\u00a0\u180e\x85éßſK😀α中\u3000\u200b٣"]
    ),
    max_size=5,
)


@settings(max_examples=1_000, deadline=None, database=None)
@given(
    pieces=st.lists(
        st.tuples(st.sampled_from(ATOMS), st.sampled_from(["", "", "*", "+?", "?", "{2}", "{1,3}", "{0,}"])),
        min_size=1,
        max_size=4,
    ),
    text=TEXTS,
)
def test_translation_matches_what_ecma_262_matches(pieces: list[tuple[str, str]], text: str) -> None:
    pattern = "".join(atom + repeat for atom, repeat in pieces)
    try:
        expected = regress.Regex(pattern, "u").find(text) is not None
    except regress.RegressError:
        assume(False)
    assert (re2.search(translated(pattern, exact=True), text) is not None) == expected, pattern
    if not needs_exact(text):
        assert (re2.search(translated(pattern, exact=False), text) is not None) == expected, pattern


@pytest.mark.parametrize(
    "pattern", [r"[[a]\-", r"[a&&b]\-", r"[a--b]\-", r"\p{L}\-", r"\u{2}\-", "😀\\-", r"\01", r"\A"]
)
def test_ambiguous_without_u_flag_is_not_searched(pattern: str) -> None:
    """A pattern that is valid only without the u flag, and that other dialects read otherwise."""
    with pytest.raises(Unsupported):
        translated(pattern, exact=False, unicode=False)
    assert check_schema({"pattern": pattern}).unchecked == ["/pattern"]


def test_a_text_may_need_a_program_that_is_too_large() -> None:
    """The exact form of `.` is three times as large: where it does not fit, only texts that need it pass unchecked."""
    schema = check_schema({"pattern": "^.{2,400}$"})
    assert schema.unchecked == []
    assert [len(schema.problems(text)) for text in ("a", "ab", "a\nb", "a\rb")] == [1, 0, 1, 0]
    small = check_schema({"pattern": "^.{2,4}$"})
    assert [len(small.problems(text)) for text in ("ab", "a\rb")] == [0, 1]


# --- what is left open


@pytest.mark.parametrize(
    ("schema", "unchecked", "open_values", "wrong_values"),
    [
        ({"pattern": LOOKAHEAD}, ["/pattern"], ["x", 1], []),
        (
            {"type": "object", "patternProperties": {LOOKAHEAD: {"type": "string"}, "^b": {"type": "null"}}},
            [f"/patternProperties/{LOOKAHEAD}"],
            [{"a": 1}, {"b": None}],
            [{"b": 1}],
        ),
        (
            {
                "properties": {"a": {"type": "null"}},
                "patternProperties": {LOOKAHEAD: {}},
                "additionalProperties": False,
            },
            [f"/patternProperties/{LOOKAHEAD}", "/additionalProperties"],
            [{"b": 1}, {"a": None}],
            [{"a": 1}],
        ),
        (
            {"allOf": [{"patternProperties": {LOOKAHEAD: {}}}], "unevaluatedProperties": False},
            [f"/allOf/0/patternProperties/{LOOKAHEAD}", "/unevaluatedProperties"],
            [{"b": 1}],
            [],
        ),
        (
            {"anyOf": [{"properties": {"a": {"pattern": LOOKAHEAD}}}, {}], "unevaluatedProperties": False},
            ["/anyOf/0/properties/a/pattern", "/unevaluatedProperties"],
            [{"a": "x"}],
            [{"b": 1}],
        ),
        ({"propertyNames": {"pattern": LOOKAHEAD}}, ["/propertyNames/pattern"], [{"a": 1}], []),
        ({"not": {"pattern": LOOKAHEAD}}, ["/not/pattern", "/not"], ["x"], [1]),
        (
            {"not": {"type": "object", "properties": {"a": {"pattern": LOOKAHEAD}}}},
            ["/not/properties/a/pattern", "/not"],
            [{"a": "x"}, 1],
            [{"a": 1}, {}],
        ),
        (
            {"oneOf": [{"pattern": LOOKAHEAD}, {"maxLength": 3}, {"minLength": 3}]},
            ["/oneOf/0/pattern", "/oneOf"],
            ["a", "abcd"],
            ["abc"],
        ),
        (
            {"if": {"pattern": LOOKAHEAD}, "then": {"maxLength": 2}, "else": {"minLength": 4}},
            ["/if/pattern", "/if"],
            ["abc"],
            [],
        ),
        (
            {"contains": {"pattern": LOOKAHEAD}, "maxContains": 1},
            ["/contains/pattern", "/contains"],
            [["a", "b"], ["a"], [1]],
            [[1, 2], []],
        ),
        (
            {"$defs": {"a": {"pattern": LOOKAHEAD}}, "properties": {"x": {"not": {"$ref": "#/$defs/a"}}}},
            ["/$defs/a/pattern", "/properties/x/not"],
            [{"x": "a"}],
            [{"x": 1}],
        ),
        (
            {"$defs": {"a": {"pattern": LOOKAHEAD}}, "allOf": [{"$ref": "#/$defs/a"}, {"not": {"$ref": "#/$defs/a"}}]},
            ["/$defs/a/pattern", "/allOf/1/not"],
            ["a"],
            [1],
        ),
        (
            {"prefixItems": [{}], "contains": {"pattern": LOOKAHEAD}, "unevaluatedItems": False},
            ["/contains/pattern", "/contains", "/unevaluatedItems"],
            [[1, "a"]],
            [],
        ),
        (
            {"anyOf": [{"type": "null"}, {"pattern": LOOKAHEAD, "type": "string"}]},
            ["/anyOf/1/pattern"],
            ["a", None],
            [1],
        ),
    ],
    ids=lambda item: str(item)[:50],
)
def test_open_result_never_refuses_a_value(
    schema: Any, unchecked: list[str], open_values: list[Any], wrong_values: list[Any]
) -> None:
    """What depends on a pattern that is not searched for is left out and listed; everything else is checked."""
    checked = check_schema(schema)
    assert sorted(checked.unchecked) == sorted(unchecked)
    for value in open_values:
        assert checked.problems(value) == [], value
    for value in wrong_values:
        assert checked.problems(value), value


SUBSCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([{"pattern": "^a"}, {"pattern": "b$"}, {"type": "string"}, {"type": "object"}, {"maxLength": 2}]),
    lambda inner: st.one_of(
        st.builds(lambda s: {"not": s}, inner),
        st.builds(lambda s: {"anyOf": s}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda s: {"oneOf": s}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda s: {"allOf": s, "unevaluatedProperties": False}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda a, b, c: {"if": a, "then": b, "else": c}, inner, inner, inner),
        st.builds(lambda s, n: {"contains": s, "maxContains": n}, inner, st.integers(1, 2)),
        st.builds(lambda s: {"properties": {"a": s}, "additionalProperties": False}, inner),
        st.builds(lambda s: {"patternProperties": {"^a": s}, "additionalProperties": False}, inner),
        st.builds(lambda s: {"patternProperties": {"b$": s}, "unevaluatedProperties": False}, inner),
        st.builds(lambda s, t: {"anyOf": [s, t], "unevaluatedItems": False}, inner, inner),
        st.builds(lambda s: {"items": s}, inner),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.sampled_from(["a", "b", "ab", "ba", "c", 1]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "ab", "c"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=1_000, deadline=None, database=None)
@given(schema=SUBSCHEMAS, value=VALUES)
def test_unsearched_pattern_rejects_no_valid_value(schema: Any, value: Any) -> None:
    """The same schema, with one pattern written so that RE2 has it and so that it has not."""

    def rewritten(item: Any) -> Any:
        if isinstance(item, dict):
            return {rewritten(name): rewritten(part) for name, part in item.items()}
        if isinstance(item, list):
            return [rewritten(part) for part in item]
        return "^(?=a)" if item == "^a" else item

    searched, unsearched = check_schema(schema), check_schema(rewritten(schema))
    assert bool(unsearched.unchecked) == ("^a" in str(schema))
    if searched.problems(value) == []:
        assert unsearched.problems(value) == []


# --- what it may cost


def test_too_many_patterns_are_left_out() -> None:
    many = {f"p{number}": {"pattern": f"^{number}$"} for number in range(MAX_PATTERNS + 5)}
    schema = check_schema({"properties": many})
    assert len(schema.unchecked) == 5
    assert sum(bool(schema.problems({name: "x"})) for name in many) == MAX_PATTERNS


def test_patterns_that_are_large_together_are_left_out() -> None:
    large = {f"p{number}": {"pattern": f"[a-z]{{4{number:02}}}"} for number in range(50)}
    assert 20 < len(check_schema({"properties": large}).unchecked) < 40
    same = {f"p{number}": {"pattern": "^[a-z]{400}$"} for number in range(101)}
    assert check_schema({"properties": same}).unchecked == []


@pytest.mark.parametrize(
    "pattern",
    ["a|" * 100, r"(?i:\p{L})" * 10, r"[\p{L}--[a-z]]\p{RGI_Emoji}", "^.{1,1000}$", r"\p{L}{999}"],
    ids=lambda pattern: pattern[:20],
)
def test_hostile_patterns_are_not_all_read(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as a schema has room for: what is parsed, and what is compiled in vain, is bounded."""
    parsed, compiled = [], []
    parse, compile_ = patterns._parse, patterns._compiled
    monkeypatch.setattr(patterns, "_parse", lambda text: (parsed.append(len(text)), parse(text))[1])
    monkeypatch.setattr(patterns, "_compiled", lambda text: (compiled.append(text), compile_(text))[1])
    _schema_cache.cache_clear()
    size = 100_000 // (len(pattern) + 40)
    schema = check_schema({"properties": {f"p{n}": {"pattern": f"{pattern}{n}"} for n in range(size)}})
    assert schema.unchecked
    assert sum(parsed) <= MAX_PARSED
    assert len(compiled) <= MAX_PATTERNS + MAX_FAILURES


def test_property_of_strings_is_not_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs milliseconds and most of a megabyte in the parser, so a pattern that needs the v flag passes unread."""
    flags: list[str] = []
    monkeypatch.setattr(regress, "Regex", lambda text, flag: (flags.append(flag), _refuse(text))[1])
    assert Patterns().add(r"[\p{L}--[a-z]]\p{RGI_Emoji}") is None
    assert flags == ["u", ""]


def _refuse(text: str) -> None:
    raise regress.RegressError(text)


# --- how it is told


def test_header_has_percent_encoded_fragments() -> None:
    pointers = ["/properties/a b/pattern", "/patternProperties/^(?!x),$/pattern", "/$defs/é~1/pattern"]
    assert fragments(pointers) == (
        "#/properties/a%20b/pattern, #/patternProperties/%5E%28%3F%21x%29%2C$/pattern, #/$defs/%C3%A9~1/pattern"
    )


@pytest.mark.parametrize("pointers", [["/a"] * 21, ["/" + "x" * 300] * 10, ["/" + "é" * 2_000], ["/a"] * 20])
def test_header_is_bounded(pointers: list[str]) -> None:
    header = fragments(pointers)
    assert len(header) <= MAX_HEADER_BYTES
    *entries, last = header.split(", ")
    if last.startswith("more="):
        assert int(last.removeprefix("more=")) + len(entries) == len(pointers)
    else:
        assert len(entries) + 1 == len(pointers) <= MAX_FRAGMENTS


@pytest.mark.parametrize(("text", "expected"), [("^(?!a)", True), ("a{1,5000}", True), ("(", False), ("", True)])
def test_format_regex_takes_ecma_262(text: str, expected: bool) -> None:
    assert is_regex(text) is expected
    assert (check_schema({"format": "regex"}, assert_formats=True).problems(text) == []) is expected
