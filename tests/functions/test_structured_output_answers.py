"""POST /structured-output with what schema generators write and what models answer: `data` is the model's own JSON."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from tests.support.edge import Answer, FakeGateway, FakeServices, native
from tests.support.functions import called
from tests.support.whole_path import whole_path

LOOKAHEAD = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"
PRICE = {
    "type": "object",
    "properties": {"price": {"anyOf": [{"type": "number"}, {"type": "string", "pattern": LOOKAHEAD}]}},
    "required": ["price"],
}
"""As pydantic describes a Decimal."""
UNCHECKED = "#/properties/price/anyOf/1/pattern"


class Texts(FakeGateway):
    """Answers with these texts in turn; the last one from then on."""

    def __init__(self, *texts: str, finish_reason: str = "STOP") -> None:
        super().__init__()
        self._texts = [native(text, finish_reason) for text in texts]

    async def generate(self, generation: Any) -> Any:
        self.says = self._texts.pop(0) if len(self._texts) > 1 else self._texts[0]
        return await super().generate(generation)


async def answered(schema: Any, *texts: str, finish_reason: str = "STOP", **fields: Any) -> tuple[Answer, list[Any]]:
    """The answer, and the schemas that Gemini was given."""
    services = FakeServices(Texts(*texts, finish_reason=finish_reason))
    body = {"user_content": "x", "system_prompt": "Extract.", "json_schema": schema, **fields}
    answer = await called("structured_output", body, services=services)
    return answer, [asked.body["generationConfig"]["responseJsonSchema"] for asked in services.gateway.asked]


def data_of(answer: Answer) -> bytes:
    """The bytes of `data`, which comes first."""
    assert answer.status == 200, answer.body
    return answer.body.removeprefix(b'{"data":').rpartition(b',"model":')[0]


# --- schemas


async def test_lookahead_is_sent_and_listed_as_unchecked() -> None:
    answer, schemas = await answered(PRICE, '{"price": "12.50"}')
    assert data_of(answer) == b'{"price": "12.50"}'
    assert answer.headers["x-schema-unchecked"] == UNCHECKED
    assert schemas == [PRICE]


async def test_repeat_over_1000_is_listed_as_unchecked() -> None:
    schema = {"type": "object", "properties": {"d": {"type": "string", "pattern": "^.{1,1024}$"}}, "required": ["d"]}
    answer, schemas = await answered(schema, '{"d": "x"}')
    assert (data_of(answer), answer.headers["x-schema-unchecked"]) == (b'{"d": "x"}', "#/properties/d/pattern")
    assert schemas == [schema]


@pytest.mark.parametrize(("finish_reason", "turns"), [("STOP", 2), ("MAX_TOKENS", 1)])
async def test_nonconforming_answer_tells_what_is_unchecked(finish_reason: str, turns: int) -> None:
    answer, schemas = await answered(PRICE, "{}", finish_reason=finish_reason)
    assert (answer.status, answer.error["code"], len(schemas)) == (502, "nonconforming_answer", turns)
    assert answer.headers["x-schema-unchecked"] == UNCHECKED


async def test_checked_schema_has_no_such_header() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a$"}}}
    for text in ('{"a": "a"}', '{"a": "b"}'):
        answer, _ = await answered(schema, text)
        assert "x-schema-unchecked" not in answer.headers


async def test_null_is_an_answer_to_nullable() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "nullable": True}}, "required": ["a"]}
    answer, schemas = await answered(schema, '{"a":null}')
    assert data_of(answer) == b'{"a":null}'
    assert schemas == [{**schema, "properties": {"a": {"type": ["string", "null"]}}}]


MOMENT = {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}, "required": ["at"]}


@pytest.mark.parametrize(("flag", "turns"), [({}, 1), ({"assert_formats": False}, 1), ({"assert_formats": None}, 1)])
async def test_formats_are_annotations(flag: dict[str, Any], turns: int) -> None:
    """pydantic's datetime has no zone, and `date-time` of RFC 3339 needs one."""
    answer, schemas = await answered(MOMENT, '{"at":"2025-07-04T15:00:00"}', **flag)
    assert data_of(answer) == b'{"at":"2025-07-04T15:00:00"}'
    assert schemas == [MOMENT] * turns


async def test_formats_are_checked_on_request() -> None:
    answer, schemas = await answered(
        MOMENT, '{"at":"2025-07-04T15:00:00"}', '{"at":"2025-07-04T15:00:00Z"}', assert_formats=True
    )
    assert data_of(answer) == b'{"at":"2025-07-04T15:00:00Z"}'
    assert len(schemas) == 2


async def test_numbers_of_a_schema_reach_gemini_with_their_digits() -> None:
    body = (
        b'\xef\xbb\xbf{"user_content": "x", "system_prompt": "y", "json_schema": {"type": "integer", "nullable": true,'
        b' "minimum": -170141183460469231731687303715884105728, "maximum": 340282366920938463463374607431768211455}}'
    )
    services = FakeServices(Texts("340282366920938463463374607431768211455"))
    answer = await called("structured_output", None, content=body, services=services)
    assert data_of(answer) == b"340282366920938463463374607431768211455"
    (asked,) = services.gateway.asked
    assert orjson.dumps(asked.body["generationConfig"]["responseJsonSchema"]) == (
        b'{"type":["integer","null"],"minimum":-170141183460469231731687303715884105728,'
        b'"maximum":340282366920938463463374607431768211455}'
    )


# --- answers


@pytest.mark.parametrize(
    "text",
    [
        '{"id":123456789012345678901234}',
        '{"a":1.0,"b":1,"c":-0,"d":-0.0,"e":1E2,"f":0.10}',
        '{"a":1e400,"b":-1e400,"c":1e-400}',
        '{"a":0.1000000000000000055511151231257827021181583404541015625}',
        '{"b":1,"a":2,"b":3}',
        '{"a":[1,\n  2]}',
        '{"a":"\\u00e9\\/\\ud83d\\ude00é😀\u2028"}',
        '{"a":' + "9" * 5_000 + "}",
        '{"a":-9223372036854775809,"b":18446744073709551616}',
        "null",
        '"text"',
        "[]",
    ],
    ids=lambda text: text[:30],
)
async def test_data_is_the_models_own_json(text: str) -> None:
    for sent in (text, f"\ufeff{text}", f" \n{text}\n", f"```json\n{text}\n```", f"\ufeff```\n{text}```\n"):
        answer, schemas = await answered({}, sent)
        assert data_of(answer) == text.encode()
        assert len(schemas) == 1
        json.loads(answer.body, parse_int=str, parse_float=str)


@pytest.mark.parametrize(
    ("text", "data"), [("```{}```", b"{}"), ("```json[1]```", b"[1]"), ('```JSON "a" ```', b'"a"')]
)
async def test_fences_on_one_line_are_taken_away(text: str, data: bytes) -> None:
    answer, _ = await answered({}, text)
    assert data_of(answer) == data


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('"a\\ud83d"', '"a\\ufffd"'),
        ('"\\uDE00\\uD83D"', '"\\ufffd\\ufffd"'),
        ('"\\ud83d\\ud83d\\ude00"', '"\\ufffd\\ud83d\\ude00"'),
        ('"\\\\ud83d"', '"\\\\ud83d"'),
        ('{"\\ud800": 12345678901234567890}', '{"\\ufffd": 12345678901234567890}'),
        ('"\ud83d\ude00 \ud83d"', '"😀 \ufffd"'),
    ],
    ids=ascii,
)
async def test_half_a_surrogate_pair_becomes_u_fffd(text: str, data: str) -> None:
    """No reader of UTF-8 takes one, and one character does not cost the answer."""
    answer, schemas = await answered({}, text)
    assert data_of(answer) == data.encode()
    assert len(schemas) == 1
    orjson.loads(answer.body)


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", '{"a": -Infinity, "b": 1e2}', "1 2", "{'a': 1}", "[1,]", '"\t"', ""]
)
async def test_what_is_not_json_is_never_data(text: str) -> None:
    answer, schemas = await answered({}, text or " ")
    assert (answer.status, answer.error["code"]) == (502, "nonconforming_answer")
    assert answer.error["details"]["errors"][0]["message"].startswith("is not JSON: ")
    assert len(schemas) == 2


async def test_an_errors_text_is_what_the_model_wrote() -> None:
    answer, _ = await answered({"type": "string"}, '\ufeff```json\n[12345678901234567890123, "\ud83d"]\n```')
    assert answer.error["details"]["text"] == '\ufeff```json\n[12345678901234567890123, "\ufffd"]\n```'


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        (
            {"type": "integer"},
            ["123456789012345678901234", "1.0", "1e2", "1e400"],
            ["1.5", "1e-1", "12345678901234567.5"],
        ),
        ({"maximum": 9007199254740992}, ["9007199254740992"], ["9007199254740993", "1e400"]),
        ({"const": 9007199254740993}, ["9007199254740993.0"], ["9007199254740992"]),
        ({"multipleOf": 0.01}, ["12345678901234567.89"], ["12345678901234567.891"]),
        ({"uniqueItems": True}, ["[9007199254740993, 9007199254740992]"], ["[1e400, 10e399]"]),
    ],
    ids=lambda item: str(item)[:30],
)
async def test_large_numbers_are_checked_exactly(schema: Any, right: list[str], wrong: list[str]) -> None:
    for text in right:
        assert (await answered(schema, text))[0].status == 200, text
    for text in wrong:
        assert (await answered(schema, text))[0].status == 502, text


async def test_all_of_it_over_the_whole_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern with lookahead, a nullable property and a big integer, with a Gemini that answers as one did."""
    text = '{"price":"1.5","note":null,"id":123456789012345678901234}'
    monkeypatch.setattr("shared.emulator.answers._text", lambda *_: text)
    properties = {**PRICE["properties"], "note": {"type": "string", "nullable": True}, "id": {"type": "integer"}}
    body = {"user_content": "x", "system_prompt": "Extract.", "json_schema": {**PRICE, "properties": properties}}
    async with whole_path() as path:
        answer = await path.send("POST", "/structured-output", orjson.dumps(body))
        assert data_of(answer) == text.encode()
        assert answer.headers["x-schema-unchecked"] == UNCHECKED
        assert (path.sent, await path.dispatched()) == (1, 1)
