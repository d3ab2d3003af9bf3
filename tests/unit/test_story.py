"""The story's models: what a story is, what is wrong with a broken one, and that its schema is one that Gemini takes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from functions.cinematic_story_design.story import RULES, Story, instruction, story_schema
from functions.cinematic_story_design.story_check import story_problems
from shared.emulator.schema_answers import value_for
from shared.generation import JsonObject
from shared.structured.json_schema import MAX_PROBLEMS
from tests.support.stories import chinese, english, line

ROOT = Path(__file__).parents[2]
Breaking = Callable[[JsonObject], Any]

GEMINI_TAKES = {
    *("$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems"),
    *("minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties"),
    *("required", "propertyOrdering"),
}
"""Keywords of a responseJsonSchema: ai.google.dev/gemini-api/docs/structured-output."""

stories = pytest.mark.parametrize("story", [english, chinese], ids=["English", "Chinese"])


def schemas(schema: Any) -> Iterator[JsonObject]:
    """The schema and all within it, names of properties not among the keywords."""
    assert isinstance(schema, dict)
    yield schema
    for within in (schema.get("$defs", {}), schema.get("properties", {})):
        for inner in within.values():
            yield from schemas(inner)
    if "items" in schema:
        yield from schemas(schema["items"])


def put(value: Any, *path: str | int) -> Breaking:
    """Breaks a story by a value at a place."""

    def breaking(story: Any) -> None:
        for step in path[:-1]:
            story = story[step]
        story[path[-1]] = value

    return breaking


class TestAStory:
    @stories
    def test_comes_back_from_its_models_as_it_was(self, story: Callable[[], JsonObject]) -> None:
        read = Story.model_validate_json(orjson.dumps(story()))
        assert orjson.loads(read.model_dump_json()) == story()

    @stories
    def test_has_no_problems_and_conforms_to_the_schema(self, story: Callable[[], JsonObject]) -> None:
        assert story_problems(story()) == []
        Draft202012Validator(story_schema()).validate(story())

    @pytest.mark.parametrize(
        "change",
        [
            put("x" * 280, "tweet_summaries", 0),
            put("鲸" * 280, "tweet_summaries", 0),
            put("x" * 100, "metadata", "youtube", "title"),
            put("鲸" * 1666, "metadata", "youtube", "description"),
            put(["x" * 249, "y z" + "x" * 245], "metadata", "youtube", "tags"),
            put("A" * 64, "chapters", 0, "id"),
            put([], "scenes", 0, "interactions"),
            put(["scene-1", "scene-2", "scene-3"], "chapters", 1, "scene_ids"),
            put(line("marta", "One light, and nobody is alone."), "scenes", 2, "audio_script", 0),
        ],
        ids=[
            "a tweet of 280",
            "a Chinese tweet of 280",
            "a video title of 100",
            "a video description of 4998 bytes",
            "tags of 500",
            "an id of 64",
            "a scene without anybody",
            "scenes that are told again",
            "a line said twice",
        ],
    )
    def test_may_go_to_the_limit(self, change: Breaking) -> None:
        story = english()
        change(story)
        assert story_problems(story) == []

    def test_story_may_have_only_a_narrator(self) -> None:
        story = english()
        story["characters"] = []
        for scene in story["scenes"]:
            scene["interactions"] = []
            scene["audio_script"] = [line("narrator", scene["description"])]
        assert story_problems(story) == []

    def test_may_repeat_a_scene_on_purpose(self) -> None:
        story = english()
        story["scenes"].append({**story["scenes"][0], "id": "scene-4", "intentional_repetition": True})
        story["chapters"][1]["scene_ids"].append("scene-4")
        assert story_problems(story) == []


def orphan(story: JsonObject) -> None:
    story["chapters"][0]["scene_ids"].remove("scene-2")


def same_scene(story: JsonObject) -> None:
    story["scenes"].append({**story["scenes"][0], "id": "scene-4"})
    story["chapters"][1]["scene_ids"].append("scene-4")


class TestABrokenReference:
    @pytest.mark.parametrize(
        ("breaking", "pointer", "sentence"),
        [
            (
                put(["scene-3", "scene-9"], "chapters", 1, "scene_ids"),
                "/chapters/1/scene_ids/1",
                "is 'scene-9', but no scene has this id",
            ),
            (
                put(["ode", "Marta"], "scenes", 1, "interactions", 0, "character_ids"),
                "/scenes/1/interactions/0/character_ids/1",
                "is 'Marta', but no character has this id",
            ),
            (
                put("gull", "scenes", 1, "audio_script", 0, "speaker"),
                "/scenes/1/audio_script/0/speaker",
                "is 'gull', but no character has this id, and it is not 'narrator' either",
            ),
            (
                orphan,
                "/scenes/1/id",
                "is 'scene-2', a scene that no chapter has in its scene_ids; add it to one",
            ),
            (
                put("chapter-1", "chapters", 1, "id"),
                "/chapters/1/id",
                "is 'chapter-1', which is the id of /chapters/0 already; ids are unique",
            ),
            (
                lambda story: story["characters"].append({**story["characters"][0], "name": "Her twin"}),
                "/characters/2/id",
                "is 'marta', which is the id of /characters/0 already; ids are unique",
            ),
            (
                lambda story: story["scenes"].append({**story["scenes"][0], "description": "Another."}),
                "/scenes/3/id",
                "is 'scene-1', which is the id of /scenes/0 already; ids are unique",
            ),
            (
                lambda story: story["characters"].append({**story["characters"][0], "id": "narrator"}),
                "/characters/2/id",
                "is 'narrator', which is the narrator's; give the character another id",
            ),
            (
                same_scene,
                "/scenes/3",
                "is the same as /scenes/0; write another scene, or set intentional_repetition if it is meant",
            ),
        ],
        ids=[
            "a chapter's scene",
            "an interaction's character",
            "a line's speaker",
            "a scene of no chapter",
            "a chapter's id twice",
            "a character's id twice",
            "a scene's id twice",
            "a character with the narrator's id",
            "a scene told twice by accident",
        ],
    )
    def test_is_the_one_problem_with_its_pointer_and_the_way_out(
        self, breaking: Breaking, pointer: str, sentence: str
    ) -> None:
        story = english()
        breaking(story)
        assert story_problems(story) == [(pointer, sentence)]


class TestABrokenForm:
    @pytest.mark.parametrize(
        ("breaking", "pointer", "sentence"),
        [
            (put("x" * 281, "tweet_summaries", 0), "/tweet_summaries/0", "has 281 characters; a tweet has at most 280"),
            (
                put("鲸" * 281, "tweet_summaries", 0),
                "/tweet_summaries/0",
                "has 281 characters; a tweet has at most 280",
            ),
            (put(" \n", "tweet_summaries", 0), "/tweet_summaries/0", "is empty; it needs a text"),
            (put("　", "scenes", 0, "description"), "/scenes/0/description", "is empty; it needs a text"),
            (
                put("x" * 101, "metadata", "youtube", "title"),
                "/metadata/youtube/title",
                "has 101 characters; YouTube takes at most 100",
            ),
            (
                put("鲸" * 1667, "metadata", "youtube", "description"),
                "/metadata/youtube/description",
                "has 5001 bytes of UTF-8; YouTube takes at most 5000",
            ),
            (
                put(["x" * 249, "y z" + "x" * 246], "metadata", "youtube", "tags"),
                "/metadata/youtube/tags",
                "have 501 characters together; YouTube takes at most 500",
            ),
            (put([], "metadata", "hashtags"), "/metadata/hashtags", "at least 1 item"),
            (put("whispered", "narrator", "gender"), "/narrator/gender", "'female', 'male' or 'neutral'"),
            (put("动画", "metadata", "youtube", "category"), "/metadata/youtube/category", "'Film & Animation'"),
            (put("false", "scenes", 0, "intentional_repetition"), "/scenes/0/intentional_repetition", "valid boolean"),
            (put(61, "characters", 0, "age"), "/characters/0/age", "valid string"),
            (put("sad", "mood"), "/mood", "Extra inputs are not permitted"),
            (put("sad", "scenes", 0, "a/b~c"), "/scenes/0/a~1b~0c", "Extra inputs are not permitted"),
            (lambda story: story.pop("narrator"), "/narrator", "Field required"),
            (lambda story: story["scenes"][0]["setting"].pop("time"), "/scenes/0/setting/time", "Field required"),
        ],
    )
    def test_single_problem_has_its_pointer(self, breaking: Breaking, pointer: str, sentence: str) -> None:
        story = english()
        breaking(story)
        [problem] = story_problems(story)
        assert problem.path == pointer
        assert sentence in problem.message

    @pytest.mark.parametrize("name", ["场景-1", "scene 1", "-1", "", "x" * 65])
    def test_ids_are_ascii_and_short(self, name: str) -> None:
        story = orjson.loads(orjson.dumps(english()).replace(b'"scene-1"', orjson.dumps(name)))
        assert {(problem.path, problem.message) for problem in story_problems(story)} == {
            (path, "must be an id of 1 to 64 ASCII letters, digits, - and _, like scene-1")
            for path in ("/scenes/0/id", "/chapters/0/scene_ids/0")
        }

    def test_all_problems_are_reported_at_once(self) -> None:
        """There is only one repair turn."""
        story = english()
        story["tweet_summaries"] = ["x" * 281]
        del story["metadata"]
        story["scenes"][0]["audio_script"].append("a gull cries")
        story["chapters"][0]["scene_ids"][0] = "scene-9"
        assert {problem.path for problem in story_problems(story)} == {
            "/metadata",
            "/tweet_summaries/0",
            "/scenes/0/audio_script/2",
            "/chapters/0/scene_ids/0",
            "/scenes/0/id",
        }

    @pytest.mark.parametrize(
        "data",
        [None, "a story", 1, [english()], {"scenes": {}}, {"scenes": [1], "chapters": ["x"], "characters": None}, {}],
    )
    def test_of_any_kind_has_problems_and_never_fails(self, data: Any) -> None:
        assert story_problems(data)

    @pytest.mark.parametrize("row", ["characters", "scenes", "chapters"])
    @pytest.mark.parametrize("value", [None, 1, {}], ids=["null", "a number", "an object"])
    def test_wrong_part_is_reported_at_its_place(self, row: str, value: Any) -> None:
        places: list[tuple[str | int, ...]] = [(row,), (row, 0), *((row, 0, name) for name in english()[row][0])]
        for place in places:
            story = english()
            put(value, *place)(story)
            pointer = "".join(f"/{step}" for step in place)
            assert any(problem.path.startswith(pointer) for problem in story_problems(story)), pointer


class TestWhatACheckCosts:
    """An answer is as large as Gemini makes it; each of these has up to 300,000 problems, or compares every two scenes."""

    @pytest.mark.parametrize(
        "data",
        [
            {"scenes": [{"number": number} for number in range(8_000)]},
            {"scenes": [{"intentional_repetition": False}] * 8_000},
            {"characters": [{}] * 30_000},
            {"chapters": [{"scene_ids": ["x"] * 100_000}]},
            {"tweet_summaries": [1] * 100_000},
            {"metadata": {"youtube": {"tags": [1] * 100_000}}},
            {f"extra {number}": 1 for number in range(100_000)},
        ],
        ids=["scenes", "equal scenes", "characters", "ids", "tweets", "tags", "other properties"],
    )
    def test_ends_after_the_first_problems(self, data: Any) -> None:
        before = time.thread_time()
        assert len(story_problems(data)) == MAX_PROBLEMS
        assert time.thread_time() - before < 3

    def test_names_the_first_of_many_problems(self) -> None:
        story = english()
        story["tweet_summaries"] = [" "] * 100
        expected = [(f"/tweet_summaries/{number}", "is empty; it needs a text") for number in range(MAX_PROBLEMS)]
        assert story_problems(story) == expected

    def test_other_problems_are_listed_unless_there_are_many(self) -> None:
        story = english()
        story["tweet_summaries"] = [" "] * (MAX_PROBLEMS - 1)
        story["chapters"][0]["scene_ids"].append("scene-9")
        assert [problem.path for problem in story_problems(story)][-1].startswith("/chapters/0/scene_ids/")

    def test_looks_at_every_scene_of_a_right_story(self) -> None:
        """The search ends at problems, never at a size."""
        story = english()
        story["tweet_summaries"] = ["a tweet"] * 5_000
        assert story_problems(story) == []
        story["tweet_summaries"].append("")
        assert [problem.path for problem in story_problems(story)] == ["/tweet_summaries/5000"]

    def test_takes_numbers_of_any_size(self) -> None:
        story = english()
        story["scenes"][0]["number"] = 10**40
        assert [problem.path for problem in story_problems(story)] == ["/scenes/0/number"]


class TestTheSchema:
    def test_has_only_what_gemini_takes(self) -> None:
        for schema in schemas(story_schema()):
            assert schema.keys() <= GEMINI_TAKES
            assert "type" in schema or schema.keys() == {"$ref"}
            if "properties" in schema:
                names = list(schema["properties"])
                assert schema["propertyOrdering"] == names == schema["required"]
                assert schema["additionalProperties"] is False

    def test_every_part_has_a_description(self) -> None:
        schema = story_schema()
        for part in [schema, *schema["$defs"].values()]:
            assert len(part["description"]) > 20

    @pytest.mark.parametrize(
        ("part", "field", "word"),
        [
            ("Chapter", "scene_ids", "`scenes`"),
            ("Interaction", "character_ids", "`characters`"),
            ("Line", "speaker", "`characters`"),
            ("Line", "speaker", "`narrator`"),
            ("Character", "id", "ASCII"),
            ("Scene", "id", "ASCII"),
            ("Chapter", "id", "ASCII"),
            ("YouTubeVideo", "title", "100"),
        ],
    )
    def test_description_states_what_the_schema_cannot(self, part: str, field: str, word: str) -> None:
        assert word in story_schema()["$defs"][part]["properties"][field]["description"]

    def test_is_outlined_field_by_field_beside_the_function(self) -> None:
        text = (ROOT / "functions" / "cinematic_story_design" / "README.md").read_text()
        outline = set(re.findall(r"[a-z_]+", text.partition("## The schema")[2].split("```")[1]))
        fields = {name for schema in schemas(story_schema()) for name in schema.get("properties", ())}
        assert fields <= outline

    def test_is_made_once(self) -> None:
        assert story_schema() is story_schema()

    def test_is_made_only_for_a_function_that_designs_stories(self) -> None:
        code = (
            "import sys, shared.structured.output, functions.chat.main, shared.bootstrap;"
            "print([name for name in ('functions.cinematic_story_design.story',) if name in sys.modules])"
        )
        told = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
        assert told.stdout.strip() == "[]"

    @pytest.mark.parametrize("seed", range(100))
    def test_offline_gemini_writes_a_valid_story(self, seed: int) -> None:
        assert story_problems(value_for(story_schema(), seed, "a whale")) == []


class TestTheInstruction:
    def test_is_the_callers_and_then_the_rules(self) -> None:
        assert instruction("用中文写。\n") == f"用中文写。\n\n{RULES}"

    @pytest.mark.parametrize(
        "word", ["280", "language", "ASCII", "scene_ids", "character_ids", "`narrator`", "intentional_repetition"]
    )
    def test_names_every_rule_that_the_schema_cannot_demand(self, word: str) -> None:
        assert word in RULES
