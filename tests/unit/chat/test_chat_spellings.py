"""A native request in camelCase, in snake_case or in both: the same reservation, and the same body sent to Gemini."""

from __future__ import annotations

import copy
import re
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chat.request import Request
from shared.gemini import wire
from shared.gemini.tokens import estimate_input_tokens
from shared.http.bodies import read

USERS_OWN = {"args", "response", "responseSchema", "responseJsonSchema", "parameters", "parametersJsonSchema"}
"""Names below these belong to the caller, whatever they look like."""
TEXTS = st.text(max_size=30)
MEDIA_TYPES = st.sampled_from(
    ["image/png", "image/jpeg", "audio/mp3", "video/mp4", "application/pdf", "text/plain", ""]
)
LEVELS = st.sampled_from(["MEDIA_RESOLUTION_LOW", "media_resolution_ultra_high", "MEDIA_RESOLUTION_HIGH"])
USER_OBJECTS = st.dictionaries(st.sampled_from(["mimeType", "file_data", "inlineData", "x_y"]), TEXTS, max_size=3)


def optional(**fields: Any) -> Any:
    return st.fixed_dictionaries({}, optional=fields)


BLOBS = st.fixed_dictionaries({"mimeType": MEDIA_TYPES, "data": st.sampled_from(["", "AAAA", "A" * 400_000])})
FILES = optional(
    mimeType=MEDIA_TYPES, fileUri=st.sampled_from(["https://youtu.be/x", "https://host/files/a", "gs://b/o"])
)
SETTINGS = optional(
    videoMetadata=optional(fps=st.sampled_from([1, 5, "5", 0.5]), startOffset=st.just("1s")),
    mediaResolution=optional(level=LEVELS, numTokens=st.integers(0, 5_000)),
)
MEDIA = st.one_of(
    st.builds(lambda blob, more: {"inlineData": blob, **more}, BLOBS, SETTINGS),
    st.builds(lambda file, more: {"fileData": file, **more}, FILES, SETTINGS),
)
PARTS = st.one_of(
    MEDIA,
    optional(text=TEXTS, thought=st.booleans(), thoughtSignature=TEXTS),
    st.builds(lambda name, args: {"functionCall": {"name": name, "args": args}}, TEXTS, USER_OBJECTS),
    st.builds(
        lambda response, parts: {"functionResponse": {"name": "f", "response": response, "parts": parts}},
        USER_OBJECTS,
        st.lists(MEDIA, max_size=2),
    ),
    st.builds(lambda text: {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": text}}, TEXTS),
)
CONTENTS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "model"]), "parts": st.lists(PARTS, min_size=1, max_size=4)}
    ),
    min_size=1,
    max_size=3,
)
CONFIGS = optional(
    temperature=st.just(0.5),
    maxOutputTokens=st.just(100),
    mediaResolution=LEVELS,
    responseModalities=st.just(["TEXT"]),
    responseJsonSchema=USER_OBJECTS,
    thinkingConfig=optional(thinkingBudget=st.just(0), includeThoughts=st.booleans()),
)


def respelled(value: Any, chance: Random | None) -> Any:
    """Every documented name in snake_case; with `chance`, each in one of both spellings."""
    if isinstance(value, list):
        return [respelled(item, chance) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        snake = re.sub(r"[A-Z]", lambda capital: "_" + capital[0].lower(), key)
        name = key if chance is not None and chance.random() < 0.5 else snake
        result[name] = item if key in USERS_OWN else respelled(item, chance)
    return result


def native(body: dict[str, Any]) -> Any:
    """The generateContent body."""
    return read(Request, body).native().body


def estimated(body: dict[str, Any]) -> int:
    return estimate_input_tokens(body, orjson.dumps(body))


@given(CONTENTS, CONFIGS, st.randoms(use_true_random=False), st.booleans())
def test_every_spelling_of_contents_is_the_same_request(
    contents: Any, config: Any, chance: Random, mixed: bool
) -> None:
    sent = {"contents": contents, "generation_config": config}
    given_body = respelled(copy.deepcopy(sent), chance if mixed else None)
    body, other = native(sent), native({"generation_config": {}, **given_body})
    assert other == body
    assert estimated(other) == estimated(body)
    assert (wire.asks_for_image(other), wire.asks_for_text_only(other)) == (
        wire.asks_for_image(body),
        wire.asks_for_text_only(body),
    )


@given(st.lists(PARTS, min_size=1, max_size=4), st.randoms(use_true_random=False), st.booleans())
def test_every_spelling_of_history_is_the_same_request(parts: Any, chance: Random, mixed: bool) -> None:
    other_parts = respelled(copy.deepcopy(parts), chance if mixed else None)
    body, other = (
        native({"prompt": "Go on.", "history": [{"role": "user", "parts": one}]}) for one in (parts, other_parts)
    )
    assert other == body
    assert estimated(other) == estimated(body)


@given(CONTENTS, st.randoms(use_true_random=False))
def test_whole_native_body_has_one_spelling(contents: Any, chance: Random) -> None:
    body = {
        "contents": contents,
        "systemInstruction": {"parts": contents[0]["parts"]},
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"x_y": 1}}]}, {"urlContext": {}}],
        "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["f"]}},
        "generationConfig": {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "1:1"}},
    }
    other = wire.camel(respelled(body, chance))
    assert other == body
    assert estimated(other) == estimated(body)
    assert wire.asks_for_image(other)


@pytest.mark.parametrize("name", ["file_data", "fileData"])
def test_video_by_its_address_is_reserved_in_either_spelling(name: str) -> None:
    uri, mime_type = ("file_uri", "mime_type") if name == "file_data" else ("fileUri", "mimeType")
    part = {name: {mime_type: "video/mp4", uri: "https://www.youtube.com/watch?v=xxxxxxxxxxx"}}
    assert estimated(native({"contents": [{"role": "user", "parts": [part, {"text": "Summarise."}]}]})) > 90_000


def test_null_does_not_hide_the_other_spelling() -> None:
    file = {"fileUri": "https://youtu.be/x"}
    for part in ({"fileData": None, "file_data": file}, {"file_data": file, "fileData": None}):
        (content,) = native({"contents": [{"parts": [part]}]})["contents"]
        assert content == {"parts": [{"fileData": file}]}


def test_one_part_without_a_list_is_reserved_like_a_list_of_one() -> None:
    part = {"file_data": {"mime_type": "video/mp4", "file_uri": "https://host/files/a"}}
    alone, listed = (native({"contents": [{"parts": parts}]}) for parts in (part, [part]))
    assert estimated(alone) == estimated(listed) > 90_000
    assert alone["contents"][0]["parts"]["fileData"]["fileUri"] == "https://host/files/a"
