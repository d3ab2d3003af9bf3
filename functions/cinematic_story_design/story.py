"""A cinematic story as pydantic models, and the schema of it that Gemini is sent. Pure.

Docstrings and descriptions here are for Gemini too: they go into the schema, and tell what a schema cannot demand. What a
rule can judge is checked afterwards (story_check.py). What is referred to is written before what refers to it.

Only a function that designs stories imports this module: pydantic costs the others 75 ms of a cold start.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.generation import JsonObject
from shared.structured.json_schema import MAX_PROBLEMS

NARRATOR = "narrator"
"""The speaker of a line that no character speaks."""
MAX_TWEET = 280
MAX_VIDEO_TITLE = 100
MAX_VIDEO_DESCRIPTION_BYTES = 5000
MAX_TAGS = 500
"""Characters of all tags together. YouTube's limits: developers.google.com/youtube/v3/docs/videos#snippet."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SENT = frozenset({"$defs", "$ref", "type", "description", "enum", "items", "minItems", "properties", "required"}) | {
    "additionalProperties"
}
"""The keywords used here of those that Gemini's responseJsonSchema takes: ai.google.dev/gemini-api/docs/structured-output."""

RULES = f"""\
The answer is one JSON object by the schema given, and these rules hold for it:
- Every text is in the language that the instructions above ask for, or else in the language of the user's content. Ids, \
`gender` and `category` are as the schema says, in ASCII, whatever the language.
- No text is empty. No id is used twice for characters, for scenes, or for chapters. No character has the id `{NARRATOR}`.
- Every id in `scene_ids` is the id of a scene in `scenes`, and every scene is in at least one chapter.
- Every id in `character_ids` is the id of a character in `characters`; every `speaker` is one of them, or `{NARRATOR}`.
- A tweet summary has at most {MAX_TWEET} characters.
- Nothing is repeated by accident. Where a scene or a line repeats an earlier one on purpose, its `intentional_repetition` \
is true."""
"""Appended to the caller's instruction."""


def _not_empty(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("empty", "is empty; it needs a text")
    return text


def _is_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise PydanticCustomError("id", "must be an id of 1 to 64 ASCII letters, digits, - and _, like scene-1")
    return text


def _is_tweet(text: str) -> str:
    if len(text) > MAX_TWEET:
        raise PydanticCustomError(
            "tweet", "has {size} characters; a tweet has at most {most}", {"size": len(text), "most": MAX_TWEET}
        )
    return _not_empty(text)


def _is_video_title(text: str) -> str:
    if len(text) > MAX_VIDEO_TITLE:
        values = {"size": len(text), "most": MAX_VIDEO_TITLE}
        raise PydanticCustomError("title", "has {size} characters; YouTube takes at most {most}", values)
    return _not_empty(text)


def _is_video_description(text: str) -> str:
    size_bytes = len(text.encode())
    if size_bytes > MAX_VIDEO_DESCRIPTION_BYTES:
        values = {"size": size_bytes, "most": MAX_VIDEO_DESCRIPTION_BYTES}
        raise PydanticCustomError("description", "has {size} bytes of UTF-8; YouTube takes at most {most}", values)
    return _not_empty(text)


def _are_tags(tags: list[str]) -> list[str]:
    """YouTube counts a comma between two tags, and quotation marks around a tag that has a space in it."""
    size = sum(len(tag) + 2 * (" " in tag) for tag in tags) + len(tags) - 1
    if size > MAX_TAGS:
        values = {"size": size, "most": MAX_TAGS}
        raise PydanticCustomError("tags", "have {size} characters together; YouTube takes at most {most}", values)
    return tags


class Search:
    """One check of an answer: how many problems it has found. It ends at MAX_PROBLEMS: an answer may have 300,000."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found = 0


def _by(rule: Callable[[str], str]) -> WrapValidator:
    """A text in a list, by a rule. It is not looked at once the search is over: the answer is wrong already."""

    def checked(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        search: Search | None = info.context
        if search is not None and search.found >= MAX_PROBLEMS:
            return ""
        try:
            return rule(handler(value))
        except ValueError:
            # ValidationError and PydanticCustomError, both.
            if search is not None:
                search.found += 1
            raise

    return WrapValidator(checked)


Text = Annotated[str, AfterValidator(_not_empty)]
Id = Annotated[str, AfterValidator(_is_id)]
Texts = list[Annotated[str, _by(_not_empty)]]
Ids = list[Annotated[str, _by(_is_id)]]
Gender = Literal["female", "male", "neutral"]
Category = Literal[
    "Film & Animation",
    "Autos & Vehicles",
    "Music",
    "Pets & Animals",
    "Sports",
    "Travel & Events",
    "Gaming",
    "People & Blogs",
    "Comedy",
    "Entertainment",
    "News & Politics",
    "Howto & Style",
    "Education",
    "Science & Technology",
    "Nonprofits & Activism",
]
"""Those that YouTube lets a video be filed under: developers.google.com/youtube/v3/docs/videoCategories/list."""
_VOICE = (
    "The id of the voice that speaks: one that the instructions name, else a voice of Gemini's speech models, such as "
    "Kore, Puck, Charon, Leda, Fenrir or Aoede."
)
_REPETITION = "true if this repeats an earlier {} on purpose (a refrain, a leitmotif, a flashback), else false."


class Part(BaseModel):
    """A JSON object that has what is declared, and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="wrap")
    @classmethod
    def _until_over(cls, value: Any, handler: ModelWrapValidatorHandler[Any], info: ValidationInfo) -> Any:
        """A part is not looked at once the search is over, and of what it should not have only the first few entries are."""
        search: Search | None = info.context
        if search is None:
            return handler(value)
        if search.found >= MAX_PROBLEMS:
            return value
        if isinstance(value, dict) and len(value) > 2 * MAX_PROBLEMS:
            others = islice((name for name in value if name not in cls.model_fields), MAX_PROBLEMS)
            value = {name: value[name] for name in (*cls.model_fields, *others) if name in value}
        before = search.found
        try:
            return handler(value)
        except ValidationError as error:
            # Those of inner values are among them, and have been counted there.
            search.found = before + error.error_count()
            raise


class YouTubeVideo(Part):
    """How the story is published as a video on YouTube."""

    title: Annotated[str, AfterValidator(_is_video_title)] = Field(
        description=f"Makes people want to watch; at most {MAX_VIDEO_TITLE} characters."
    )
    description: Annotated[str, AfterValidator(_is_video_description)] = Field(
        description="What the video is about, its first sentence as a hook; at most 1500 characters."
    )
    tags: Annotated[Texts, AfterValidator(_are_tags)] = Field(
        min_length=1, description="5 to 15 search terms, without #; together at most 400 characters."
    )
    category: Category = Field(description="YouTube's category, by its English name.")
    made_for_kids: bool = Field(description="true if children are the audience.")


class Metadata(Part):
    """What the story is and how it is announced."""

    title: Text = Field(description="The story's title.")
    logline: Text = Field(description="The story in one or two sentences.")
    language: Text = Field(description="BCP 47 code of the language that the texts are in, such as en or zh-Hans.")
    youtube: YouTubeVideo
    hashtags: Texts = Field(min_length=1, description="3 to 10, each beginning with # and without spaces.")


class Visuals(Part):
    """How the pictures of the story look, the same from the first to the last."""

    illustration_style: Text = Field(
        description="For an image generator, valid for every picture: medium, palette, light, lens or line, mood, era."
    )
    cover_image_description: Text = Field(
        description="The cover, complete in itself: subject, composition, background, light, colours; no lettering."
    )


class Narrator(Part):
    """The voice that tells the story."""

    name: Text
    gender: Gender
    voice_id: Text = Field(description=_VOICE)


class Character(Part):
    """Somebody in the story, described so that every picture shows the same person."""

    id: Id = Field(description=f"ASCII letters, digits, - and _, such as character-1; never `{NARRATOR}`.")
    name: Text = Field(description="As the story calls them.")
    role: Text = Field(description="Who they are in the story and what they want.")
    personality: Text
    gender: Gender
    age: Text = Field(description="In years, or what can be seen of it.")
    appearance: Text = Field(
        description="Body for an image generator: build, face, skin, hair, eyes, marks that tell them from all others."
    )
    clothing: Text = Field(description="What they wear throughout: garments, fabrics, colours, accessories.")
    expression_and_posture: Text = Field(description="How they usually look and hold themselves.")
    voice_id: Text = Field(description=_VOICE)


class Setting(Part):
    """Where and when a scene takes place."""

    place: Text
    time: Text = Field(description="Time of day, season, era.")
    atmosphere: Text = Field(description="Weather, light, sounds, mood.")


class Interaction(Part):
    """Something that characters do to each other, or one does alone."""

    character_ids: Ids = Field(min_length=1, description="Who takes part: ids of `characters`.")
    action: Text = Field(description="What happens between them, as the camera sees it.")


class Line(Part):
    """Something that is heard, without stage directions in it."""

    speaker: Id = Field(description=f"Who speaks: an id of `characters`, or `{NARRATOR}`.")
    text: Text = Field(description="The spoken words only.")
    delivery: Text = Field(description="How they are spoken: emotion, pace, volume.")
    intentional_repetition: bool = Field(description=_REPETITION.format("line"))


class Scene(Part):
    """One place and time without a cut in the story."""

    id: Id = Field(description="ASCII letters, digits, - and _, such as scene-1.")
    description: Text = Field(
        description="The whole picture, complete in itself: who is where, doing what, foreground and background, camera. "
        "An image is made of it without knowing the other scenes."
    )
    setting: Setting
    interactions: list[Interaction] = Field(description="In order; empty where nobody is seen.")
    audio_script: list[Line] = Field(min_length=1, description="All that is heard, in order.")
    intentional_repetition: bool = Field(description=_REPETITION.format("scene"))


class Chapter(Part):
    """Scenes that belong together, in order."""

    id: Id = Field(description="ASCII letters, digits, - and _, such as chapter-1.")
    title: Text
    scene_ids: Ids = Field(min_length=1, description="Ids of `scenes`, in the order of the telling.")


class Story(Part):
    """A story ready to be illustrated, spoken and published."""

    metadata: Metadata
    visuals: Visuals
    narrator: Narrator
    characters: list[Character] = Field(description="All who are seen or heard; empty if there is only the narrator.")
    scenes: list[Scene] = Field(min_length=1, description="All scenes, in order.")
    chapters: list[Chapter] = Field(min_length=1, description="All chapters, in order; every scene is in at least one.")
    tweet_summaries: list[Annotated[str, _by(_is_tweet)]] = Field(
        min_length=1, description=f"The story as 1 to 5 tweets, each at most {MAX_TWEET} characters, hashtags included."
    )


def instruction(system_prompt: str) -> str:
    """The caller's instruction, and then the rules that the schema cannot express."""
    return f"{system_prompt.rstrip()}\n\n{RULES}"


@cache
def story_schema() -> JsonObject:
    """For generationConfig.responseJsonSchema; one object for all requests, not to be changed."""
    schema: JsonObject = _sent(Story.model_json_schema())
    return schema


def _sent(schema: Any) -> Any:
    """Only what Gemini takes: a `$ref` stands alone, and what it does not know is left out."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    sent = {word: schema[word] for word in schema if word in _SENT}
    for word in sent.keys() & {"$defs", "properties"}:
        sent[word] = {name: _sent(value) for name, value in sent[word].items()}
    for word in sent.keys() & {"items", "additionalProperties"}:
        sent[word] = _sent(sent[word])
    if "properties" in sent:
        sent["propertyOrdering"] = list(sent["properties"])
    return sent
