"""POST /cinematic-story-design: a story whose references hold is answered, a broken one is repaired once or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from functions.cinematic_story_design.story import RULES, Story, story_schema
from functions.cinematic_story_design.story_check import story_problems
from shared.emulator.references import with_references
from shared.generation import Generation, JsonObject, Reply
from tests.support.edge import ADMIN, Answer, FakeGateway, FakeServices
from tests.support.functions import called
from tests.support.stories import chinese, english
from tests.support.whole_path import OWN_KEY, OWN_LEDGER, WholePath, told, whole_path

MODEL = "gemini-4-argon"
PATH = "/cinematic-story-design"
BODY = {
    "user_content": "A lighthouse keeper finds a whale that is afraid of the dark.",
    "system_prompt": "You write bedtime stories.",
}
DANGLING = "is 'scene-9', but no scene has this id"


async def asked(path: WholePath, content: str = BODY["user_content"], **fields: Any) -> Answer:
    body = {**BODY, "user_content": content, **fields}
    headers: Mapping[str, str] = {} if "credentials" in fields else ADMIN
    return await path.send("POST", PATH, orjson.dumps(body), headers)


def dangling(story: JsonObject) -> JsonObject:
    """The story, with a chapter that names a scene that does not exist."""
    story["chapters"][0]["scene_ids"].append("scene-9")
    return story


def break_answers(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The first `times` answers of the offline Gemini conform to the schema, and one reference in them leads nowhere."""
    left = iter(range(times))

    def broken(schema: Any, value: Any) -> Any:
        story = with_references(schema, value)
        return story if next(left, None) is None else dangling(story)

    monkeypatch.setattr("shared.emulator.schema_answers.with_references", broken)


class Scripted(FakeGateway):
    """Says one text after another."""

    async def generate(self, generation: Generation) -> Reply:
        texts, self.says = self.says, self.says[0]
        try:
            return await super().generate(generation)
        finally:
            self.says = texts[1:]


def scripted(*stories: JsonObject) -> FakeServices:
    return FakeServices(Scripted([orjson.dumps(story).decode() for story in stories]), {})


class TestAStory:
    async def test_is_answered_with_the_model_and_the_usage(self) -> None:
        async with whole_path() as path:
            answer = await asked(path)
            assert answer.status == 200, answer.body
            body = answer.json()
            assert story_problems(body["data"]) == []
            assert (body["model"], body["finish_reason"]) == (MODEL, "STOP")
            assert set(body) == {"data", "model", "finish_reason", "usage", "request_id"}
            assert body["usage"]["total_tokens"] > body["usage"]["prompt_tokens"] > 0
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_leaves_the_schema_that_all_requests_share_as_it_was(self) -> None:
        before = orjson.dumps(story_schema())
        async with whole_path() as path:
            assert (await asked(path)).status == 200
        assert orjson.dumps(story_schema()) == before

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
        services = scripted(english())
        config = {"temperature": 1, "maxOutputTokens": 30000}
        assert (
            await called("cinematic_story_design", {**BODY, "generation_config": config}, services=services)
        ).status == 200
        [generation] = services.gateway.asked
        assert generation.body["generationConfig"].items() >= config.items()

    async def test_request_has_schema_and_rules(self) -> None:
        """The rules come after the caller's instruction."""
        services = scripted(chinese())
        body = {"user_content": "画龙点睛的故事", "system_prompt": "用中文写，说书人的口吻。"}
        answer = await called("cinematic_story_design", body, services=services)
        [generation] = services.gateway.asked
        assert generation.model == MODEL
        assert generation.body == {
            "contents": [{"role": "user", "parts": [{"text": "画龙点睛的故事"}]}],
            "systemInstruction": {"parts": [{"text": f"用中文写，说书人的口吻。\n\n{RULES}"}]},
            "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": story_schema()},
        }
        assert answer.json()["data"] == chinese()
        assert "说书人" in answer.body.decode()

    async def test_that_is_answered_is_one_of_its_models(self) -> None:
        answer = await called("cinematic_story_design", BODY, services=scripted(english()))
        assert Story.model_validate(answer.json()["data"]).chapters[1].scene_ids == ["scene-3"]


class TestABrokenStory:
    async def test_is_repaired_with_an_admission_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with whole_path() as path:
            plain = (await asked(path)).json()["usage"]
            break_answers(monkeypatch, times=1)
            answer = await asked(path)
            assert answer.status == 200, answer.body
            assert story_problems(answer.json()["data"]) == []
            assert answer.json()["usage"]["prompt_tokens"] > 2 * plain["prompt_tokens"]
            assert (path.sent, await path.dispatched()) == (3, 3)

    async def test_repair_shows_problems_and_counts_both_turns(self) -> None:
        broken = dangling(english())
        broken["tweet_summaries"][0] = "x" * 281
        services = scripted(broken, english())
        answer = await called("cinematic_story_design", BODY, services=services)
        assert answer.json()["data"] == english()
        first, second = services.gateway.asked
        assert second.body | {"contents": first.body["contents"]} == first.body
        question, wrong, repair = second.body["contents"]
        assert [question] == first.body["contents"]
        assert (wrong["role"], orjson.loads(wrong["parts"][0]["text"])) == ("model", broken)
        assert repair["role"] == "user"
        assert f"- /chapters/0/scene_ids/2: {DANGLING}\n" in repair["parts"][0]["text"]
        assert "- /tweet_summaries/0: has 281 characters; a tweet has at most 280\n" in repair["parts"][0]["text"]
        once = (await called("cinematic_story_design", BODY, services=scripted(english()))).json()["usage"]
        assert answer.json()["usage"] == {name: 2 * count for name, count in once.items()}

    async def test_broken_repair_is_returned_with_errors_and_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        break_answers(monkeypatch, times=2)
        async with whole_path() as path:
            answer = await asked(path)
            assert told(answer) == (502, "nonconforming_answer")
            details = answer.error["details"]
            assert details["errors"] == [{"path": "/chapters/0/scene_ids/2", "message": DANGLING}]
            assert DANGLING in answer.error["message"]
            assert story_problems(orjson.loads(details["text"])) == [("/chapters/0/scene_ids/2", DANGLING)]
            assert (path.sent, await path.dispatched()) == (2, 2)

    @pytest.mark.parametrize("fault", ["wrong_json", "not_json"])
    async def test_may_also_be_no_story_at_all(self, fault: str) -> None:
        async with whole_path() as path:
            answer = await asked(path, f"A whale [[fault:{fault}]]")
            assert story_problems(answer.json()["data"]) == []
            assert (path.sent, await path.dispatched()) == (2, 2)

    async def test_that_has_more_than_is_asked_for_is_repaired(self) -> None:
        answer = await called(
            "cinematic_story_design", BODY, services=scripted({**english(), "soundtrack": "waves"}, english())
        )
        assert answer.json()["data"] == english()

    async def test_repair_without_a_permit_is_a_queue_timeout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        break_answers(monkeypatch, times=1)
        async with whole_path(GEMINI_RPM=1, QUEUE_TIMEOUT_SECONDS=0.3) as path:
            answer = await asked(path)
            assert told(answer) == (429, "queue_timeout")
            assert int(answer.headers["retry-after"]) >= 1
            assert path.sent == 1

    async def test_truncated_answer_is_not_repaired(self) -> None:
        async with whole_path() as path:
            config = {"max_output_tokens": 400, "thinking_config": {"thinking_level": "low"}}
            answer = await asked(path, generation_config=config)
            assert told(answer) == (502, "nonconforming_answer")
            assert "MAX_TOKENS" in answer.error["message"]
            assert "max_output_tokens" in answer.error["message"]
            assert (path.sent, await path.dispatched()) == (1, 1)

    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            ("block", (400, "prompt_blocked")),
            ("safety", (502, "response_blocked")),
            ("max_tokens", (502, "empty_response")),
            ("400", (400, "rejected_by_gemini")),
        ],
    )
    async def test_that_was_not_even_begun_is_not_repaired(self, fault: str, expected: tuple[int, str]) -> None:
        async with whole_path() as path:
            assert told(await asked(path, f"[[fault:{fault}]]")) == expected
            assert path.sent == 1


class TestABadRequest:
    @pytest.mark.parametrize(
        ("change", "field", "rule"),
        [
            ({"user_content": None}, "user_content", "must be a string"),
            ({"user_content": ""}, "user_content", "is empty"),
            ({"user_content": " \n\t"}, "user_content", "is empty"),
            ({"user_content": ["A whale"]}, "user_content", "must be a string, not a list"),
            ({"system_prompt": "　"}, "system_prompt", "is empty"),
            ({"system_prompt": 1}, "system_prompt", "must be a string, not a number"),
            ({"model": []}, "model", "must be a string, not a list"),
            ({"model": "../secrets"}, "model", "model"),
            ({"credentials": OWN_KEY}, "credentials", "must be an object"),
            ({"credentials": {"gemini_api_key": 1}}, "credentials.gemini_api_key", "must be a string"),
            ({"generation_config": []}, "generation_config", "must be an object, not a list"),
            ({"generation_config": {"temperature": "hot"}}, "generation_config.temperature", "must be a number"),
            ({"generation_config": {"temprature": 1}}, "generation_config.temprature", "Did you mean temperature?"),
            (
                {"generation_config": {"response_json_schema": {"type": "object"}}},
                "generation_config.response",
                "is set by this endpoint",
            ),
            ({"json_schema": {"type": "object"}}, "json_schema", "Unknown field json_schema"),
            ({"usercontent": "A whale"}, "usercontent", "Did you mean user_content?"),
        ],
    )
    async def test_wrong_field_is_named_and_costs_nothing(
        self, change: Mapping[str, Any], field: str, rule: str
    ) -> None:
        async with whole_path() as path:
            answer = await path.send("POST", PATH, orjson.dumps({**BODY, **change}))
            assert told(answer) == (400, "invalid_request")
            assert answer.error["details"]["field"].startswith(field)
            assert rule in answer.error["message"]
            assert (path.sent, await path.ledgers()) == (0, {})

    @pytest.mark.parametrize("name", BODY)
    async def test_missing_field_error_describes_the_field(self, name: str) -> None:
        async with whole_path() as path:
            body = {other: text for other, text in BODY.items() if other != name}
            answer = await path.send("POST", PATH, orjson.dumps(body))
            assert told(answer) == (400, "invalid_request")
            assert answer.error["details"]["field"] == name
            assert f"{name} is required; send a text: " in answer.error["message"]

    async def test_without_a_credential_is_refused(self) -> None:
        async with whole_path() as path:
            assert told(await path.send("POST", PATH, orjson.dumps(BODY), {})) == (401, "unauthorized")
            assert path.sent == 0
