"""Bodies of image requests: what is refused, which size is asked for, and what a form stands for."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import BadRequest
from shared.generation import UNKNOWN_USAGE, Usage
from shared.http.bodies import read
from shared.openai_format.image_bodies import EditsBody, GenerationsBody, Made, form_values, images_answer

PRO, FLASH, OLD = "gemini-3-pro-image", "gemini-3.1-flash-image", "gemini-2.5-flash-image"
IMAGE = Made("https://gateway.example.com/image/a.png", None, "image/png", 1024, 1024)
FAILURE = {"index": 1, "code": "response_blocked", "message": "Gemini withheld the image."}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("n", 9),
        ("size", "large"),
        ("size", "0x1024"),
        ("size", "3073x1024"),
        ("size", 1024),
        ("quality", "best"),
        ("response_format", "png"),
        ("output_format", "webp"),
        ("output_compression", 50),
        ("background", "transparent"),
        ("style", "vivid"),
        ("stream", True),
        ("stream", 0),
        ("partial_images", 1),
        ("partial_images", False),
        ("complexity", "low"),
        ("frame_count", 4),
        ("svg", {"model": "x"}),
    ],
)
def test_what_gemini_has_no_setting_for_is_refused(field: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=rf"^{field} .+\.$") as raised:
        read(GenerationsBody, {"prompt": "A lighthouse", field: value})
    assert raised.value.details == {"field": field}


def test_optional_fields_may_be_null() -> None:
    """openai-python sends null where its user passes None."""
    names = GenerationsBody.model_fields.keys() - {"prompt"}
    assert read(GenerationsBody, {"prompt": "A lighthouse", **dict.fromkeys(names)}).n is None


@pytest.mark.parametrize(
    ("size", "model", "ratio", "resolution"),
    [
        (None, PRO, None, None),
        ("auto", PRO, None, None),
        ("1024x1024", PRO, "1:1", "1K"),
        ("1536x1024", PRO, "3:2", "1K"),
        ("1024x1792", PRO, "9:16", "1K"),
        ("2560x1440", PRO, "16:9", "2K"),
        ("4096x4096", PRO, "1:1", "4K"),
        ("3000x1000", PRO, "21:9", "2K"),
        ("256x256", PRO, "1:1", "1K"),
        ("256x256", FLASH, "1:1", "512"),
        ("256x256", OLD, "1:1", None),
    ],
)
def test_size_becomes_nearest_ratio_and_resolution(size: Any, model: str, ratio: Any, resolution: Any) -> None:
    assert read(GenerationsBody, {"prompt": "A lighthouse", "size": size}).shape(model) == (ratio, resolution)


@pytest.mark.parametrize(
    "size", ["1024x1024\n", "auto\n", " 1024x1024", "1024X1024", "0x1024", "1024x1024x1", "1x4", ""]
)
def test_size_of_another_form_is_refused(size: str) -> None:
    with pytest.raises(BadRequest, match="size must be"):
        read(GenerationsBody, {"prompt": "A lighthouse", "size": size})


class TestForm:
    def test_numbers_and_booleans_are_read_from_their_texts(self) -> None:
        values = form_values({"prompt": ["1"], "n": ["2"], "stream": ["false"]}, {})
        assert values == {"prompt": "1", "n": 2, "stream": False}

    def test_text_that_is_no_number_stays_for_the_error(self) -> None:
        assert form_values({"n": ["two"], "stream": ["yes"]}, {}) == {"n": "two", "stream": "yes"}

    def test_images_of_both_names_are_one_list(self) -> None:
        values = form_values({"prompt": ["Rain"]}, {"image": ["a.png"], "image[]": ["b.png", "c.png"]})
        assert read(EditsBody, values).image == ["a.png", "b.png", "c.png"]

    def test_repeated_field_is_refused(self) -> None:
        with pytest.raises(BadRequest, match=r"^prompt must be a string"):
            read(EditsBody, form_values({"prompt": ["a", "b"]}, {"image": ["a.png"]}))

    @pytest.mark.parametrize("name", ["mask", "markup"])
    def test_mask_is_refused_by_name(self, name: str) -> None:
        with pytest.raises(BadRequest, match=f"^{name} is not supported; describe in prompt which part"):
            read(EditsBody, form_values({"prompt": ["Rain"]}, {"image": ["a.png"], name: ["m.png"]}))

    def test_form_without_an_image_is_refused(self) -> None:
        with pytest.raises(BadRequest, match=r"^image is required"):
            read(EditsBody, form_values({"prompt": ["Rain"]}, {}))


class TestAnswer:
    def test_bytes_that_are_left_out_have_no_field(self) -> None:
        shown = images_answer(5, [IMAGE, IMAGE._replace(b64_json="aGk=")], [], UNKNOWN_USAGE, of_text=True)
        assert [sorted(entry) for entry in shown["data"]] == [
            ["height", "mime_type", "url", "width"],
            ["b64_json", "height", "mime_type", "url", "width"],
        ]

    def test_failures_are_listed_by_their_number(self) -> None:
        shown = images_answer(5, [IMAGE], [FAILURE, {**FAILURE, "index": 0}], UNKNOWN_USAGE, of_text=True)
        assert [error["index"] for error in shown["errors"]] == [0, 1]

    def test_tokens_of_a_text_are_text_tokens(self) -> None:
        shown = images_answer(5, [IMAGE], [], Usage(6, 1120, 30, 1156), of_text=True)["usage"]
        assert shown == {
            "input_tokens": 6,
            "input_tokens_details": {"text_tokens": 6, "image_tokens": 0},
            "output_tokens": 1150,
            "total_tokens": 1156,
        }

    @pytest.mark.parametrize("usage", [UNKNOWN_USAGE, Usage(6, None, None, None), Usage(None, 1120, 0, 1126)])
    def test_unknown_counts_are_null(self, usage: Usage) -> None:
        shown = images_answer(5, [IMAGE], [], usage, of_text=False)["usage"]
        assert shown["output_tokens"] is None
        assert shown["input_tokens_details"] == {"text_tokens": None, "image_tokens": None}
