"""What is wrong with a story: its form by the models, and the rules between its parts by hand. Pure.

There is one repair, so it names problems of both kinds, up to 20. The time is linear in the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any

import orjson
from pydantic import ValidationError

from functions.cinematic_story_design.story import NARRATOR, Search, Story
from shared.generation import JsonObject
from shared.structured.json_schema import MAX_PROBLEMS, Problem
from shared.structured.json_schema.wording import pointer


def story_problems(data: Any) -> list[Problem]:
    """What is wrong with an answer, at most 20 problems; [] if it is a Story whose references hold."""
    problems: list[Problem] = []
    try:
        Story.model_validate(data, context=Search())
    except ValidationError as error:
        problems = [Problem(pointer(found["loc"]), found["msg"]) for found in error.errors(include_url=False)]
    return [*problems, *islice(_broken_references(data), MAX_PROBLEMS)][:MAX_PROBLEMS]


class StoryCheck:
    """As structured_output.Check. The time of a check is linear in the answer, so its length alone decides where it runs."""

    def problems(self, value: Any, /) -> list[Problem]:
        return story_problems(value)

    quick_problems = problems


def _broken_references(data: Any) -> Iterator[Problem]:
    """Of an object of any form: what is not as it should be was told by pydantic, and is passed over here."""
    characters, scenes, chapters = (list(_objects(data, name)) for name in ("characters", "scenes", "chapters"))
    for rows in (characters, scenes, chapters):
        yield from _repeated_ids(rows)
    for at, character in characters:
        if character.get("id") == NARRATOR:
            yield Problem(f"{at}/id", f"is {NARRATOR!r}, which is the narrator's; give the character another id")
    yield from _scene_references(scenes, chapters)
    known = _ids(characters)
    for at, scene in scenes:
        for where, interaction in _objects(scene, "interactions", at):
            yield from _unknown(_texts(interaction, "character_ids", where), known, "character")
        lines = [(f"{where}/speaker", line.get("speaker")) for where, line in _objects(scene, "audio_script", at)]
        speaking = [(where, name) for where, name in lines if isinstance(name, str) and name != NARRATOR]
        yield from _unknown(speaking, known, "character", f", and it is not {NARRATOR!r} either")
    yield from _repeated_scenes(scenes)


_Row = tuple[str, JsonObject]
"""An object and the pointer to it."""


def _scene_references(scenes: list[_Row], chapters: list[_Row]) -> Iterator[Problem]:
    known = _ids(scenes)
    named: set[str] = set()
    for at, chapter in chapters:
        references = list(_texts(chapter, "scene_ids", at))
        named.update(name for _, name in references)
        yield from _unknown(references, known, "scene")
    for at, scene in scenes:
        if isinstance(scene.get("id"), str) and scene["id"] not in named:
            yield Problem(
                f"{at}/id", f"is {scene['id']!r}, a scene that no chapter has in its scene_ids; add it to one"
            )


def _repeated_ids(rows: list[_Row]) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for at, row in rows:
        if isinstance(row.get("id"), str) and (before := first.setdefault(row["id"], at)) != at:
            yield Problem(f"{at}/id", f"is {row['id']!r}, which is the id of {before} already; ids are unique")


def _repeated_scenes(scenes: list[_Row]) -> Iterator[Problem]:
    """Only a scene that is the same in every word: whether a paraphrase is a repetition is not for a rule to say."""
    earlier: dict[bytes, str] = {}
    for at, scene in scenes:
        content = {name: value for name, value in scene.items() if name not in ("id", "intentional_repetition")}
        try:
            written = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            # A number of many digits, or nesting without end: no scene has that, which is a problem already.
            continue
        same = earlier.setdefault(blake2b(written, digest_size=16).digest(), at)
        if same != at and scene.get("intentional_repetition") is False:
            yield Problem(
                at, f"is the same as {same}; write another scene, or set intentional_repetition if it is meant"
            )


def _unknown(references: Iterable[tuple[str, str]], known: set[str], kind: str, besides: str = "") -> Iterator[Problem]:
    for at, name in references:
        if name not in known:
            yield Problem(at, f"is {name!r}, but no {kind} has this id{besides}")


def _objects(parent: Any, name: str, at: str = "") -> Iterator[_Row]:
    for index, value in enumerate(_list(parent, name)):
        if isinstance(value, dict):
            yield f"{at}/{name}/{index}", value


def _texts(parent: Any, name: str, at: str) -> Iterator[tuple[str, str]]:
    for index, value in enumerate(_list(parent, name)):
        if isinstance(value, str):
            yield f"{at}/{name}/{index}", value


def _list(parent: Any, name: str) -> list[Any]:
    value = parent.get(name) if isinstance(parent, dict) else None
    return value if isinstance(value, list) else []


def _ids(rows: list[_Row]) -> set[str]:
    return {row["id"] for _, row in rows if isinstance(row.get("id"), str)}
