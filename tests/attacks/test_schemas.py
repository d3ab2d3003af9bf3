"""Schemas of both drafts, random ones and the costliest known, from somebody with a made-up key."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random
from typing import Any

import orjson

from tests.attacks.siege import Siege, besieged
from tests.fuzz.schemas import large, small

SEED = int(os.environ.get("ATTACK_SEED", "1"))
SMALL, LARGE = 120, 24
DRAFT_07 = "http://json-schema.org/draft-07/schema#"


def costly() -> list[dict[str, Any]]:
    """One of each kind that once took seconds, or failed."""
    return [
        {
            "items": {"allOf": [{"$dynamicRef": "#n"}] * 3_500},
            "contains": {"anyOf": [{"$dynamicAnchor": "n"}] * 2_000},
        },
        {"type": "string", "minLength": 20_000, "allOf": [{"format": "regex"}] * 800},
        {"type": "number", "allOf": [{"multipleOf": 1e-9 + at} for at in range(2_000)]},
        {"type": "array", "minItems": 60, "uniqueItems": True, "items": {"enum": list(range(5_000))}},
        {"$schema": DRAFT_07, "dependentSchemas": 1},
        {"$schema": DRAFT_07, "prefixItems": {"a": []}, "$dynamicRef": 7},
        {
            "$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(48)} | {"a48": {}},
            "$ref": "#/$defs/a0",
        },
        {"pattern": "(a*)*b", "type": "string"},
        {"patternProperties": {f"^{'(x+x+)+' * 3}{n}$": {} for n in range(300)}},
        {"enum": ["x" * 8] * 9_000},
        {"required": [f"k{n}" for n in range(9_000)]},
        {"contains": {"contains": {"contains": {"minContains": 10**9}}}},
        {
            "unevaluatedProperties": {"unevaluatedProperties": False},
            "anyOf": [{"properties": {f"p{n}": {}}} for n in range(2_000)],
        },
        {"$ref": "https://attacker.example/schema.json"},
        {"$ref": "#"},
    ]


async def send(siege: Siege, schema: Any, key: dict[str, str]) -> None:
    body = {"user_content": "Hello", "system_prompt": "Answer.", "json_schema": schema}
    try:
        data = orjson.dumps(body)
    except (TypeError, ValueError):
        return  # A number that JSON cannot say.
    await siege.post(data, **key)


async def test_no_schema_stops_the_others(unpacked: Path, tmp_path: Path) -> None:
    dice = Random(f"schemas {SEED}")
    made_up, known = {"x_goog_api_key": "invalid-" + "a" * 30}, {"x_goog_api_key": "AQ.own-key-of-a-caller"}
    async with besieged("structured_output", unpacked, tmp_path) as siege, siege.watched():
        for schema in costly():
            await send(siege, schema, made_up)
            await send(siege, schema, known)
        for _ in range(LARGE):
            await send(siege, large(dice).schema, dice.choice([made_up, known]))
        for _ in range(SMALL // 4):
            await asyncio.gather(*(send(siege, small(dice).schema, dice.choice([made_up, known])) for _ in range(4)))
