"""Items as callers write them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from shared.batch.item import Item, Medium
from shared.batch.reading import read_item, read_task
from shared.errors import BadRequest

DATA = base64.b64encode(b"sound").decode()


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
    with pytest.raises(BadRequest, match="") as raised:
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


@pytest.mark.parametrize("given", [True, "", "x" * 257, [1]])
def test_a_wrong_id_is_a_problem(given: Any) -> None:
    task = read_task({"prompt": "x", "id": given}, 0, paths=True)
    assert task.item is None and task.id is None and task.problem is not None


def test_absent_metadata_is_an_empty_object() -> None:
    assert read_task({"prompt": "x"}, 0, paths=True).metadata == {}
    assert read_task({"prompt": "x", "metadata": 0}, 0, paths=True).metadata == 0
