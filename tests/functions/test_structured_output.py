"""POST /structured-output over the whole path: what conforms is answered, what does not is repaired once or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema
import orjson
import pytest

from tests.support.edge import ADMIN, Answer
from tests.support.whole_path import OWN_KEY, OWN_LEDGER, WholePath, told, whole_path

MODEL = "gemini-4-argon"
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "born": {"type": "integer"}},
    "required": ["name", "born"],
    "additionalProperties": False,
}
EVERYTHING = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "label": {"type": ["string", "null"]},
                "kind": {"enum": ["leaf", "branch"]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["label", "kind"],
        }
    },
    "type": "object",
    "properties": {
        "root": {"$ref": "#/$defs/node"},
        "rating": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 5}, {"type": "null"}]},
        "书名": {"type": "string", "minLength": 1},
    },
    "required": ["root", "rating", "书名"],
}


async def asked(path: WholePath, schema: Any = PERSON, content: str = "Ada Lovelace", **fields: Any) -> Answer:
    body = {"user_content": content, "system_prompt": "Extract the person.", "json_schema": schema, **fields}
    headers: Mapping[str, str] = {} if "credentials" in fields else ADMIN
    return await path.send("POST", "/structured-output", orjson.dumps(body), headers)


def usage_of(answer: Answer) -> Mapping[str, int]:
    usage: Mapping[str, int] = answer.json()["usage"]
    return usage


class TestAConformingAnswer:
    @pytest.mark.parametrize("schema", [PERSON, EVERYTHING], ids=["flat", "refs-recursion-anyOf-null"])
    async def test_is_an_object_by_the_schema_with_the_model_and_the_usage(self, schema: dict[str, Any]) -> None:
        async with whole_path() as path:
            answer = await asked(path, schema)
            assert answer.status == 200, answer.body
            body = answer.json()
            jsonschema.validate(body["data"], schema)
            assert (body["model"], body["finish_reason"]) == (MODEL, "STOP")
            assert set(body) == {"data", "model", "finish_reason", "usage", "request_id"}
            assert body["usage"]["total_tokens"] > body["usage"]["prompt_tokens"] > 0
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_free_tier_uses_a_model_with_free_quota(self) -> None:
        async with whole_path(GEMINI_TIER="free") as path:
            assert (await asked(path)).json()["model"] == "gemini-3.8-flash"

    async def test_is_not_of_the_model_that_is_set_for_plain_text(self) -> None:
        async with whole_path(GEMINI_MODEL_TYPE="gemini-3.5-flash-lite") as path:
            assert (await asked(path)).json()["model"] == MODEL
            assert (await asked(path, model="gemini-3.6-flash")).json()["model"] == "gemini-3.6-flash"

    async def test_caller_key_has_a_ledger_of_its_own(self) -> None:
        async with whole_path() as path:
            assert (await asked(path, credentials={"gemini_api_key": OWN_KEY})).status == 200
            assert (await path.dispatched("server"), await path.dispatched(OWN_LEDGER)) == (0, 1)

    async def test_may_be_asked_for_with_a_generation_config(self) -> None:
        async with whole_path() as path:
            assert (await asked(path, generation_config={"temperature": 0, "maxOutputTokens": 4000})).status == 200


class TestANonconformingAnswer:
    @pytest.mark.parametrize("fault", ["wrong_json", "not_json"])
    async def test_is_repaired_once_with_an_admission_of_its_own(self, fault: str) -> None:
        async with whole_path() as path:
            plain = await asked(path)
            answer = await asked(path, content=f"Ada Lovelace [[fault:{fault}]]")
            assert answer.status == 200, answer.body
            jsonschema.validate(answer.json()["data"], PERSON)
            assert usage_of(answer)["prompt_tokens"] > 2 * usage_of(plain)["prompt_tokens"]
            assert (path.sent, await path.dispatched()) == (3, 3)

    @pytest.mark.parametrize(("fault", "reason"), [("wrong_json", "object"), ("not_json", "not JSON")])
    async def test_wrong_repair_is_returned_with_errors_and_text(self, fault: str, reason: str) -> None:
        async with whole_path() as path:
            path.gemini.app.faults.order(fault, count=2)
            answer = await asked(path)
            assert told(answer) == (502, "nonconforming_answer")
            details = answer.error["details"]
            assert reason in details["errors"][0]["message"]
            assert "born" in details["text"]
            assert (path.sent, await path.dispatched()) == (2, 2)

    async def test_truncated_answer_is_not_repaired(self) -> None:
        async with whole_path() as path:
            config = {"max_output_tokens": 20, "thinking_config": {"thinking_level": "low"}}
            answer = await asked(path, EVERYTHING, generation_config=config, model="gemini-3.5-flash-lite")
            assert answer.status == 502
            assert "MAX_TOKENS" in answer.error["message"]
            assert path.sent == 1

    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            ("block", (400, "prompt_blocked")),
            ("safety", (502, "response_blocked")),
            ("max_tokens", (502, "empty_response")),
            ("400", (400, "rejected_by_gemini")),
        ],
    )
    async def test_without_any_text_is_not_repaired(self, fault: str, expected: tuple[int, str]) -> None:
        async with whole_path() as path:
            assert told(await asked(path, content=f"[[fault:{fault}]]")) == expected
            assert path.sent == 1

    async def test_repair_without_a_permit_is_a_queue_timeout(self) -> None:
        async with whole_path(GEMINI_RPM=1, QUEUE_TIMEOUT_SECONDS=0.3) as path:
            path.gemini.app.faults.order("wrong_json")
            answer = await asked(path)
            assert told(answer) == (429, "queue_timeout")
            assert int(answer.headers["retry-after"]) >= 1
            assert path.sent == 1


class TestABadRequest:
    @pytest.mark.parametrize(
        ("schema", "pointer"),
        [
            ({"type": "objekt"}, "/type"),
            ({"type": "object", "properties": {"a": {"minimum": "1"}}}, "/properties/a/minimum"),
            ({"$ref": "https://example.com/person.json"}, "/$ref"),
            ({"$ref": "#/$defs/missing"}, "/$ref"),
        ],
    )
    async def test_points_into_the_schema_before_anything_is_sent(self, schema: Any, pointer: str) -> None:
        async with whole_path() as path:
            answer = await asked(path, schema)
            assert told(answer) == (400, "invalid_request")
            assert answer.error["details"] == {"field": "json_schema", "pointer": pointer}
            assert path.sent == 0

    @pytest.mark.parametrize("name", ["response_schema", "responseMimeType", "response_json_schema"])
    async def test_is_a_config_that_says_what_the_endpoint_says(self, name: str) -> None:
        async with whole_path() as path:
            value = "application/json" if "ime" in name else {"type": "object"}
            answer = await asked(path, generation_config={name: value})
            assert told(answer) == (400, "invalid_request")
            assert answer.error["details"]["field"].startswith("generation_config.response")
            assert path.sent == 0
