"""Items as callers write them."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import pytest

from shared.batch.item import Item, Medium
from shared.batch.reading import MAX_FIELDS, read_item, read_task
from shared.errors import BadRequest

DATA = base64.b64encode(b"sound").decode()


OFFSET = "video_metadata.start_offset"


def medium(item: Item, at: int = 0) -> Medium:
    return item.media[at]


def test_types_and_metadata_belong_to_paths_then_bytes_then_urls() -> None:
    item = read_item(
        {
            "prompt": "x",
            "video_path": ["a.mp4", "b.mp4"],
            "video_bytes": b"v",
            "video_url": "https://x.example/v",
            "video_mime_type": ["video/webm", None, "video/mpeg"],
            "video_metadata": [None, {"start_offset": "10s", "end_offset": 20.5, "fps": 2}],
        },
        paths=True,
    )
    assert [(one.origin, one.source, one.mime_type, one.where) for one in item.media] == [
        ("path", "a.mp4", "video/webm", "video_path[0]"),
        ("path", "b.mp4", "video/mp4", "video_path[1]"),
        ("bytes", b"v", "video/mpeg", "video_bytes"),
        ("url", "https://x.example/v", "video/mp4", "video_url"),
    ]
    assert [one.video_metadata for one in item.media] == [
        None,
        {"startOffset": "10s", "endOffset": "20.5s", "fps": 2},
        None,
        None,
    ]


def test_one_value_stands_for_a_list_of_one() -> None:
    item = read_item({"prompt": "x", "audio_path": Path("a.mp3"), "audio_mime_type": "audio/wav"}, paths=True)
    assert (medium(item).source, medium(item).mime_type) == ("a.mp3", "audio/wav")


def test_defaults_of_types() -> None:
    item = read_item({"prompt": "x", "audio_bytes": b"a", "video_bytes": b"v", "pdf_bytes": b"p"}, paths=True)
    assert [one.mime_type for one in item.media] == ["video/mp4", "audio/mp3", "application/pdf"]


@pytest.mark.parametrize(
    "given", [b"sound", bytearray(b"sound"), memoryview(b"sound"), DATA, f"data:audio/mp3;base64,{DATA}"]
)
def test_bytes_may_be_base64(given: Any) -> None:
    assert medium(read_item({"prompt": "x", "audio_bytes": given}, paths=False)).source == b"sound"


@pytest.mark.parametrize(
    ("data", "field", "said"),
    [
        ({}, "prompt", "is missing"),
        ({"prompt": 3}, "prompt", "must be a text"),
        ({"prompt": " "}, "prompt", "is empty"),
        ({"prompt": "x", "audio_paths": ["a"]}, "audio_paths", "did you mean audio_path?"),
        ({"prompt": "x", "audioPath": "a"}, "audioPath", "did you mean audio_path?"),
        ({"prompt": "x", "video": "a"}, "video", "did you mean video_path?"),
        ({"prompt": "x", "image_files": ["a"]}, "image_files", "did you mean image_path?"),
        ({"prompt": "x", "temperature": 1}, "temperature", "did you mean generation_config.temperature?"),
        ({"prompt": "x", "topP": 1}, "topP", "did you mean generation_config.top_p?"),
        ({"prompt": "x", "system_instruction": "s"}, "system_instruction", "did you mean system_prompt?"),
        ({"prompt": "x", "schema": {}}, "schema", "did you mean response_schema?"),
        (
            {"prompt": "x", "system_prompt": "s", "generation_config": {"system_instruction": "t"}},
            "system_prompt",
            "are both there",
        ),
        (
            {"prompt": "x", "response_schema": {}, "generation_config": {"response_json_schema": {}}},
            "response_schema",
            "are both there",
        ),
        ({"prompt": "x", "video_bytes": b"a", "video_metadata": {"start_offset": 10**400}}, OFFSET, "must be seconds"),
        ({"prompt": "x", "video_bytes": b"a", "video_metadata": {"start_offset": "abc"}}, OFFSET, "must be seconds"),
        ({"prompt": "x", "video_bytes": b"a", "video_metadata": {"start_offset": math.inf}}, OFFSET, "must be seconds"),
        ({"prompt": "x", "audio_path": 3}, "audio_path", "must be a path"),
        ({"prompt": "x", "audio_path": ["a", ""]}, "audio_path[1]", "must be a path"),
        ({"prompt": "x", "audio_bytes": "@@"}, "audio_bytes", "must be base64"),
        ({"prompt": "x", "audio_bytes": b""}, "audio_bytes", "is empty"),
        ({"prompt": "x", "audio_bytes": 7}, "audio_bytes", "must be bytes"),
        ({"prompt": "x", "audio_bytes": b"a", "audio_mime_type": ["a/b", "a/b"]}, "audio_mime_type", "2 entries"),
        ({"prompt": "x", "audio_bytes": b"a", "audio_mime_type": "mp3"}, "audio_mime_type", "a type like audio/wav"),
        ({"prompt": "x", "video_bytes": b"a", "video_metadata": {"speed": 1}}, "video_metadata.speed", "is not known"),
        ({"prompt": "x", "video_bytes": b"a", "video_metadata": {"fps": 0}}, "video_metadata.fps", "over 0"),
        ({"prompt": "x", "video_bytes": b"a", "video_metadata": {"fps": True}}, "video_metadata.fps", "over 0"),
        ({"prompt": "x", "video_metadata": {"fps": 1}}, "video_metadata", "1 entries, but the item has 0"),
        ({"prompt": "x", "system_prompt": 1}, "system_prompt", "must be a text"),
        ({"prompt": "x", "response_schema": []}, "response_schema", "must be a JSON Schema"),
        ({"prompt": "x", "generation_config": {"temperature": 3}}, "generation_config.temperature", "from 0 to 2"),
        ({"prompt": "x", "generation_config": {}, "generationConfig": {}}, "generation_config", "are both there"),
    ],
)
def test_what_is_wrong_is_named(data: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read_item(data, paths=True)
    assert raised.value.details == {"field": field}
    assert said in raised.value.message and raised.value.message.startswith(field)


def test_paths_are_for_local_programs() -> None:
    with pytest.raises(BadRequest, match="audio_path names a file of your machine; send its bytes"):
        read_item({"prompt": "x", "audio_path": "/etc/passwd"}, paths=False)


def test_an_unknown_field_is_ignored_with_a_warning() -> None:
    """Programs have always put fields of their own into items."""
    item = read_item({"prompt": "x", "customer": 7}, paths=True)
    assert item.warnings == ("The field customer is not known, and was ignored.",)


def test_a_task_keeps_metadata_and_id_of_a_wrong_item() -> None:
    task = read_task({"id": 7, "metadata": [1], "prompt": None}, 3, paths=True)
    assert (task.index, task.id, task.metadata, task.item) == (3, "7", [1], None)
    assert task.problem is not None and task.problem.message == "prompt must be a text."


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_a_task_of_no_object(data: Any) -> None:
    task = read_task(data, 0, paths=True)
    assert task.item is None and task.problem is not None and task.metadata == {}


@pytest.mark.parametrize("given", [True, "", "x" * 257, [1], pytest.param(10**5000, id="huge")])
def test_a_wrong_id_is_a_problem(given: Any) -> None:
    task = read_task({"prompt": "x", "id": given}, 0, paths=True)
    assert task.item is None and task.id is None and task.problem is not None


def test_absent_metadata_is_an_empty_object() -> None:
    assert read_task({"prompt": "x"}, 0, paths=True).metadata == {}
    assert read_task({"prompt": "x", "metadata": 0}, 0, paths=True).metadata == 0


@pytest.mark.parametrize(
    ("given", "sent"),
    [(12345.678, "12345.678s"), (1_000_000, "1000000s"), (0.1, "0.1s"), ("10", "10s"), ("1.50s", "1.5s"), (0, "0s")],
)
def test_offsets_are_sent_as_they_were_written(given: Any, sent: str) -> None:
    item = read_item({"prompt": "x", "video_bytes": b"v", "video_metadata": {"start_offset": given}}, paths=True)
    assert medium(item).video_metadata == {"startOffset": sent}


def test_a_data_url_names_its_type() -> None:
    item = read_item({"prompt": "x", "audio_bytes": f"data:audio/wav;base64,{DATA}"}, paths=True)
    assert (medium(item).mime_type, medium(item).source) == ("audio/wav", b"sound")


def test_settings_that_are_nested_too_deep_are_a_problem() -> None:
    deep: dict[str, Any] = {}
    for _ in range(600):
        deep = {"a": deep}
    listed: list[Any] = []
    for _ in range(600):
        listed = [listed]
    for config in (deep, {"a": listed}):
        task = read_task({"prompt": "x", "generation_config": config}, 0, paths=False)
        assert task.problem is not None and "nested more than" in task.problem.message


def test_an_item_with_very_many_fields_is_rejected() -> None:
    """Each unknown name costs a comparison with all known ones."""
    task = read_task({"prompt": "a", **{f"name {number}": 1 for number in range(MAX_FIELDS)}}, 0, paths=False)
    assert task.problem is not None and "at most 100 fields" in task.problem.message
