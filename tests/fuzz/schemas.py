"""Checks random JSON Schemas of both drafts, and random answers by them: `python -m tests.fuzz.schemas [--seconds 60]`.

Half are small, with any keyword over any value, and half are as large as a schema may be, with what is costly in them. A
check may refuse a schema (BadRequest) and an answer (problems); any other exception is a defect. Beside the checks an event
loop beats as the server's does; 300 ms of work between two beats are a freeze, and a defect too. With CI set the
schemas are the same each time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from shared.errors import BadRequest
from shared.generation import Reply, Usage
from shared.structured.json_schema import MAX_BYTES, Schema, check_schema
from shared.structured.output import _read

MAX_FREEZE_S = 0.3
BEAT_S = 0.005
DRAFTS: tuple[str | None, ...] = (
    None,
    "https://json-schema.org/draft/2020-12/schema",
    "http://json-schema.org/draft-07/schema#",
)
SHAPED = (
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minContains",
    "maxContains",
)
NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
ONE = ("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then", "contentSchema")
ONE += ("additionalItems", "unevaluatedItems", "unevaluatedProperties")
SEVERAL = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED = ("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties")
OTHERS = ("$anchor", "$comment", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$recursiveRef", "$schema", "const")
OTHERS += ("dependentRequired", "enum", "format", "nullable", "pattern", "required", "type", "uniqueItems", "x-own")
WORDS = (*SHAPED, *NUMBERS, *ONE, *SEVERAL, *NAMED, *OTHERS)
TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
NAMES = ("a", "b", "c", "^a", "ä/~")
REFERENCES = ("#", "#/$defs/a", "#/definitions/a", "#/properties/a", "#n", "#/allOf/0", "#/items", "other.json", "i#n")
FORMATS = ("date", "date-time", "duration", "email", "ipv4", "ipv6", "regex", "time", "uuid", "other")
PATTERNS = ("^a", "(a|b)+$", r"\p{L}{2}", r"(?i:[\W]x)", "(?=a)", "[ab]*a[ab]{50}", "(", "a{900}", ".*x.*y")
HASH_MODULUS = 2**61 - 1


class Sample(NamedTuple):
    schema: dict[str, Any]
    answer: str


class Worst(NamedTuple):
    freeze_s: float
    number: int
    sample: str


# --- small: any keyword over anything


def small(dice: random.Random) -> Sample:
    schema = _schema(dice, 4)
    if draft := dice.choice(DRAFTS):
        schema = {"$schema": draft, **schema}
    return Sample(schema, orjson.dumps(_value(dice, 4)).decode())


def _schema(dice: random.Random, depth: int) -> Any:
    if depth == 0 or dice.random() < 0.1:
        return dice.choice([True, False]) if depth < 4 else {}
    return {word: _keyword(dice, word, depth - 1) for word in dice.sample(WORDS, dice.randint(1, 5))}


def _keyword(dice: random.Random, word: str, depth: int) -> Any:
    """Mostly of the right shape."""
    if dice.random() < 0.04:
        return _value(dice, 1)
    if word in ONE:
        return _schema(dice, depth) if dice.random() < 0.9 else [_schema(dice, depth)]
    if word in SEVERAL:
        return [_schema(dice, depth) for _ in range(dice.randint(1, 3))]
    if word in NAMED:
        return {name: _schema(dice, depth) for name in dice.sample(NAMES, dice.randint(0, 3))}
    if word in SHAPED:
        return dice.randint(0, 3)
    if word in NUMBERS:
        return dice.choice([1, 2, 0.5, 0.01, 1e300, 10**30, True])
    choices: dict[str, Callable[[], Any]] = {
        "$ref": lambda: dice.choice(REFERENCES),
        "$dynamicRef": lambda: dice.choice(REFERENCES),
        "$recursiveRef": lambda: "#",
        "$id": lambda: dice.choice(["i", "other.json", "#n", "urn:x"]),
        "$schema": lambda: dice.choice(DRAFTS[1:]),
        "$anchor": lambda: "n",
        "$dynamicAnchor": lambda: "n",
        "dependentRequired": lambda: {"a": ["b"]},
        "enum": lambda: [_value(dice, 2) for _ in range(3)],
        "format": lambda: dice.choice(FORMATS),
        "pattern": lambda: dice.choice(PATTERNS),
        "required": lambda: dice.sample(NAMES, 2),
        "type": lambda: dice.choice([*TYPES, dice.sample(TYPES, 2)]),
        "nullable": lambda: True,
        "uniqueItems": lambda: True,
    }
    return choices.get(word, lambda: _value(dice, 2))()


def _value(dice: random.Random, depth: int) -> Any:
    kind = dice.randrange(8 if depth else 6)
    if kind == 6:
        return [_value(dice, depth - 1) for _ in range(dice.randint(0, 4))]
    if kind == 7:
        return {name: _value(dice, depth - 1) for name in dice.sample(NAMES, dice.randint(0, 4))}
    return dice.choice([None, True, 0, 1, -1, 1.0, 0.1, 1e300, 2**63, "", "a", "ab", "2026-01-31", "x" * 50, "ä\r\n"])


# --- large: what is costly, as often as it fits


def large(dice: random.Random) -> Sample:
    """One part, or two by turns, as often as a schema holds, applied to a value or to each of its items."""
    parts = [dice.choice(_PARTS)(dice) for _ in range(dice.randint(1, 2))]
    size = sum(len(_written(part)) + 1 for part in parts)
    times = dice.choice([100, 1_000, 9_000, MAX_BYTES]) // size
    word = dice.choice(["allOf", "anyOf", "oneOf"])
    body: dict[str, Any] = {word: (parts * (times // len(parts) + 1))[: min(times, 9_900)] or parts}
    if dice.random() < 0.2:
        body |= dice.choice([{"unevaluatedProperties": False}, {"unevaluatedItems": False}, {"uniqueItems": True}])
    place = dice.choice(["items", "contains", "additionalProperties", "not", "", ""])
    schema = {place: body} if place else body
    schema["$defs"] = {"a": {"type": dice.choice(TYPES)}, "d": {"$dynamicAnchor": "n"}, "u": {"pattern": "(?=a)"}}
    if dice.random() < 0.3:
        schema["$schema"] = DRAFTS[2]
    return Sample(schema, dice.choice(_ANSWERS)(dice))


_PARTS: tuple[Callable[[random.Random], Any], ...] = (
    lambda dice: {},
    lambda dice: False,
    lambda dice: {"$ref": dice.choice(["#/$defs/a", "#/$defs/d", "#/$defs/u"])},
    lambda dice: {"$dynamicRef": "#n"},
    lambda dice: {"$dynamicAnchor": "n"},
    lambda dice: {"$id": f"i{dice.randrange(10)}", "$dynamicAnchor": "n"},
    lambda dice: {"format": dice.choice(FORMATS)},
    lambda dice: {"multipleOf": dice.choice([3, 0.03, 1e-300])},
    lambda dice: {dice.choice(NUMBERS[:4]): dice.choice([1, 0.5])},
    lambda dice: {"type": dice.choice(TYPES)},
    lambda dice: {"uniqueItems": True},
    lambda dice: {"enum": [dice.randrange(9) * HASH_MODULUS % 2**63 for _ in range(dice.choice([2, 2_000]))]},
    lambda dice: {"const": _value(dice, 3)},
    lambda dice: {"required": [f"p{index}" for index in range(dice.choice([1, 1_000]))]},
    lambda dice: {"properties": {f"p{index}": {} for index in range(dice.choice([1, 100]))}},
    lambda dice: {"pattern": dice.choice([*PATTERNS, f"{dice.randrange(1000)}(?i:[\\p{{L}}])"])},
    lambda dice: {"patternProperties": {f"{index}.*{dice.randrange(999)}": {} for index in range(3)}},
    lambda dice: {"not": {"contains": {"enum": [1]}}},
    lambda dice: {"items": {"$ref": "#"}},
    lambda dice: {"if": {"$ref": "#/$defs/a"}, "then": {"minItems": 9}, "else": {"maxItems": 1}},
    lambda dice: {"dependentSchemas": {"p1": {}}, "dependencies": {"p2": ["p3"]}},
    lambda dice: {"propertyNames": {"maxLength": 2}},
    lambda dice: _schema(dice, 3),
)


def _repeated(text: str) -> Callable[[random.Random], str]:
    return lambda dice: orjson.dumps(text * (dice.choice([900, 60_000, 500_000]) // len(text))).decode()


_ANSWERS: tuple[Callable[[random.Random], str], ...] = (
    _repeated("(a|b)"),
    _repeated(r"(?i:[\p{L}])"),
    _repeated("1:"),
    _repeated("P1"),
    _repeated("ab\r"),
    lambda dice: "7" * dice.choice([400, 4_000, 300_000]),
    lambda dice: f"0.{'3' * dice.choice([400, 4_000, 300_000])}",
    lambda dice: f"[{','.join(str(index * HASH_MODULUS) for index in range(dice.choice([90, 9_000])))}]",
    lambda dice: f"[{','.join(f'{index}e{-dice.randrange(900)}' for index in range(dice.choice([90, 4_000])))}]",
    lambda dice: f"[{','.join(['1' * 3_900] * dice.choice([9, 200]))}]",
    lambda dice: "[" * 400 + "]" * 400,
    lambda dice: orjson.dumps({f"p{index}": [index] for index in range(dice.choice([9, 9_000]))}).decode(),
    lambda dice: orjson.dumps([{"a": [index]} for index in range(dice.choice([9, 9_000]))]).decode(),
    lambda dice: orjson.dumps([f"2026-01-{index}" for index in range(dice.choice([9, 9_000]))]).decode(),
    lambda dice: orjson.dumps(_value(dice, 5)).decode(),
)


# --- the run


class Heart:
    """Beats on an event loop, and keeps the longest time between two beats since it was asked last.

    Time is the process's CPU time: what other processes of the machine take is no freeze of ours."""

    def __init__(self) -> None:
        self._longest_s = 0.0

    async def beat(self) -> None:
        before = time.process_time()
        while True:
            await asyncio.sleep(BEAT_S)
            now = time.process_time()
            self._longest_s = max(self._longest_s, now - before)
            before = now

    def longest_s(self) -> float:
        longest_s, self._longest_s = self._longest_s, 0.0
        return longest_s


async def check(sample: Sample) -> bool:
    """As the function does: the schema is checked, and then an answer is. False where the schema is refused."""
    source = _written({"json_schema": sample.schema}).encode()
    try:
        schema: Schema = check_schema(orjson.loads(source)["json_schema"], assert_formats=True, source=source)
    except BadRequest as refused:
        assert refused.details and refused.details["field"] == "json_schema"
        return False
    # What the caller is charged for between the two gives the loop a turn; here a beat does.
    await asyncio.sleep(2 * BEAT_S if len(source) > 10_000 else 0)
    parts = [{"text": sample.answer}]
    body = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
    _, _, problems = await _read(Reply(body, "model", "model", "account", Usage()), schema)
    assert all(len(problem.message) <= 200 for problem in problems)
    return True


async def fuzz(seconds: float, seed: int) -> int:
    heart = Heart()
    beating = asyncio.create_task(heart.beat())
    ends = time.monotonic() + seconds
    worst: list[Worst] = []
    defects = accepted = number = 0
    try:
        while time.monotonic() < ends and defects < 5:
            number += 1
            sample = (large if number % 8 == 0 else small)(random.Random(f"{seed}-{number}"))
            # Making a large sample is no part of what is measured.
            await asyncio.sleep(BEAT_S if number % 8 == 0 else 0)
            heart.longest_s()
            [outcome] = await asyncio.gather(check(sample), return_exceptions=True)
            accepted += outcome is True
            if isinstance(outcome, BaseException):
                defects += 1
                told = "".join(traceback.format_exception(outcome))
                sys.stderr.write(f"Schema {number} of seed {seed}: {_shown(sample)}\n{told}\n")
            await asyncio.sleep(BEAT_S if number % 8 == 0 else 0)
            worst = sorted([*worst, Worst(heart.longest_s(), number, _shown(sample))], reverse=True)[:3]
    finally:
        beating.cancel()
    sys.stdout.write(
        f"{number} schemas of both drafts (seed {seed}), {accepted} of them accepted, {defects} defects.\n"
    )
    sys.stdout.write("The longest freezes of the event loop:\n")
    for freeze in worst:
        sys.stdout.write(f"  {freeze.freeze_s * 1000:5.0f} ms  schema {freeze.number}: {freeze.sample}\n")
    return int(defects > 0 or worst[0].freeze_s > MAX_FREEZE_S)


def _written(value: Any) -> str:
    """orjson would not write an integer of more than 64 bits."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _shown(sample: Sample) -> str:
    schema = _written(sample.schema)
    return f"{schema[:150]} ({len(schema)} bytes), answer {sample.answer[:40]} ({len(sample.answer)} characters)"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.schemas", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, help="of an earlier run, which printed it")
    options = parser.parse_args(arguments)
    seed = options.seed
    if seed is None:
        seed = 0 if os.environ.get("CI") else random.randrange(2**31)
    gc.freeze()
    return asyncio.run(fuzz(options.seconds, seed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
