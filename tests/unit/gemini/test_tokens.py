"""The estimate is safe: never under what is counted, never absurdly over it, and cheap."""

from __future__ import annotations

import base64
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.emulator import tokens as judge
from shared.gemini.tokens import CACHED_CONTENT_TOKENS, estimate_input_tokens, media_tokens, text_tokens

ENGLISH = (
    "It was a bright cold day in April, and the clocks were striking thirteen. He slipped quickly through the glass "
    "doors of the building, though not quickly enough to prevent a swirl of gritty dust from entering along with him. "
)


def body(*parts: dict, **rest) -> dict:
    return {"contents": [{"role": "user", "parts": list(parts)}], **rest}


def estimate(*parts: dict, **rest) -> int:
    return estimate_input_tokens(body(*parts, **rest))


class TestText:
    @pytest.mark.parametrize(
        ("text", "likely"),
        [
            # What tokenizers of this size make of each, roughly: characters per token in the comment.
            (ENGLISH, len(ENGLISH) / 4.5),
            ("def f(x: int) -> str:\n    return str(x + 1)\n" * 5, 5 * 17),
            ("3.14159265358979323846" * 5, 110),
            ("Съешь же ещё этих мягких французских булок", 42 / 2.5),
            ("人人生而自由,在尊严和权利上一律平等。", 19 / 1.3),
            ("すべての人間は、生まれながらにして自由であり", 22 / 1.2),
            ("सभी मनुष्यों को गौरव और अधिकारों के मामले में", 46 / 2),
            ("🌍🚀🎉", 6),
            ("QWJjRGVmR2hpSmtsTW5vUHFyU3R1Vnd4WXo", 35 / 1.7),
            ("Ann\nBob\nCem\n" * 4, 24),
            ("", 0),
        ],
    )
    def test_estimate_is_between_tokenizer_and_bytes(self, text, likely):
        assert likely <= text_tokens(text) <= len(text.encode())

    def test_is_about_twice_the_mean_for_prose(self):
        assert 1.8 < text_tokens(ENGLISH) / (len(ENGLISH) / 4) < 2.4

    @given(st.text())
    def test_of_two_texts_is_the_sum_of_theirs(self, text):
        assert text_tokens(text + ENGLISH) == pytest.approx(text_tokens(text) + text_tokens(ENGLISH))


TEXTS = st.text(max_size=60)
PARTS = st.one_of(
    TEXTS.map(lambda text: {"text": text}),
    TEXTS.map(lambda text: {"text": text, "thought": True, "thoughtSignature": "c2ln"}),
    st.builds(
        lambda mime, data: {"inlineData": {"mimeType": mime, "data": base64.b64encode(data).decode()}},
        st.sampled_from(
            ["image/png", "image/jpeg", "audio/wav", "audio/mp3", "video/mp4", "application/pdf", "text/plain"]
        ),
        st.binary(max_size=200),
    ),
    st.sampled_from(["image/png", "audio/mp3", "video/mp4", "application/pdf", "text/plain", ""]).map(
        lambda mime: {"fileData": {"mimeType": mime, "fileUri": "https://host/v1beta/files/abc"}}
    ),
    st.builds(lambda name, arg: {"functionCall": {"name": name, "args": {"a": arg}}}, TEXTS, TEXTS),
    st.builds(lambda name, arg: {"functionResponse": {"name": name, "response": {"r": arg}}}, TEXTS, TEXTS),
)
REQUESTS = st.builds(
    lambda contents, system, tools: {
        "contents": [{"role": "user", "parts": parts} for parts in contents],
        **({"systemInstruction": {"parts": [{"text": system}]}} if system else {}),
        **({"tools": [{"functionDeclarations": [{"name": name} for name in tools]}]} if tools else {}),
    },
    st.lists(st.lists(PARTS, max_size=6), min_size=1, max_size=4),
    TEXTS,
    st.lists(TEXTS, max_size=3),
)


@given(REQUESTS)
def test_covers_whatever_the_offline_gemini_counts(request):
    assert estimate_input_tokens(request) >= sum(judge.count_request(request).values())


@given(REQUESTS, st.sampled_from([1, 300]))
def test_the_serialised_body_never_makes_it_less(request, times):
    request = request | {"contents": request["contents"] * times}
    data = orjson.dumps(request)
    assert estimate_input_tokens(request, data) >= estimate_input_tokens(request)


def test_long_text_history_is_estimated_by_bytes():
    turns = [{"role": "user", "parts": [{"text": "Hi there."}]}] * 1_000
    texts = {"contents": turns}
    assert estimate_input_tokens(texts, orjson.dumps(texts)) < 4 * estimate_input_tokens(texts)
    image = {"contents": [*turns, {"parts": [{"inlineData": {"mimeType": "image/png", "data": "A" * 200_000}}]}]}
    assert estimate_input_tokens(image, orjson.dumps(image)) == estimate_input_tokens(image)


class TestWhatCounts:
    def test_every_part_is_a_token_at_least(self):
        assert estimate(*[{"text": "a"}] * 1_000) >= 1_000

    def test_every_turn_the_system_instruction_and_the_tools(self):
        alone = estimate({"text": "Hi"})
        tool = {"functionDeclarations": [{"name": "f", "description": ENGLISH}]}
        for more in (
            estimate_input_tokens(
                {"contents": [{"parts": [{"text": ENGLISH}]}, {"role": "model", "parts": [{"text": "Hi"}]}]}
            ),
            estimate({"text": "Hi"}, systemInstruction={"parts": [{"text": ENGLISH}]}),
            estimate({"text": "Hi"}, tools=[tool]),
            estimate({"text": "Hi"}, generationConfig={"responseJsonSchema": {"description": ENGLISH}}),
            estimate({"text": "Hi"}, {"functionResponse": {"name": "f", "response": {"result": ENGLISH}}}),
        ):
            assert more >= alone + len(ENGLISH) / 2

    def test_settings_do_not(self):
        assert estimate({"text": "Hi"}, generationConfig={"stopSequences": [ENGLISH]}, safetySettings=[{}]) == estimate(
            {"text": "Hi"}
        )

    def test_a_cache_and_what_it_may_hold(self):
        assert (
            estimate({"text": "Hi"}, cachedContent="cachedContents/x") - estimate({"text": "Hi"})
            == CACHED_CONTENT_TOKENS
        )

    def test_a_cache_that_is_null_is_none(self):
        assert estimate({"text": "Hi"}, cachedContent=None) == estimate({"text": "Hi"})

    @pytest.mark.parametrize(
        "unseen",
        [
            {"contents": [{"parts": [{"text": "Hi"}]}], "newField": ENGLISH},
            {"contents": [{"parts": [{"text": "Hi"}]}], "continuationToken": ENGLISH},
            {"contents": [{"parts": [{"text": "Hi"}], "newField": {"x": ENGLISH}}]},
            {"contents": [{"newField": {"x": ENGLISH}}]},
            {"contents": [{"parts": [{"text": "Hi", "newField": [ENGLISH]}]}]},
            {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "", "displayName": ENGLISH}}]}]},
            {"contents": [{"parts": [{"functionResponse": {"parts": [{"text": ENGLISH}]}}]}]},
            {"contents": [{"parts": [{"functionResponse": {"parts": {"text": ENGLISH}}}]}]},
            {"contents": [{"parts": [{"functionResponse": {"parts": [{"newField": ENGLISH}]}}]}]},
            {
                "contents": [
                    {"parts": [{"functionResponse": {"parts": [{"inlineData": {"mimeType": "a/b"}, "text": ENGLISH}]}}]}
                ]
            },
            {"contents": [{"parts": {"text": ENGLISH}}]},
            {"contents": {"parts": {"text": ENGLISH}}},
            {"generationConfig": {"responseFormat": {"schema": {"description": ENGLISH}}}},
            {"requests": {"content": {"parts": [{"text": ENGLISH}]}}},
            {"systemInstruction": ENGLISH},
        ],
    )
    def test_every_field_that_is_not_known_by_its_size(self, unseen):
        assert estimate_input_tokens(unseen) >= text_tokens(ENGLISH)

    def test_every_item_of_an_embedding_batch(self):
        one = {"content": {"parts": [{"text": ENGLISH}]}}
        assert estimate_input_tokens({"requests": [one] * 10}) >= 10 * text_tokens(ENGLISH)

    @pytest.mark.parametrize(
        "odd",
        [
            {},
            {"contents": None},
            {"contents": "text"},
            {"contents": {"parts": [{"text": "x"}]}},
            {"contents": [None, 5, "x", {"parts": None}, {"parts": "x"}, {"parts": [None, 5, {"text": None}]}]},
            {"contents": [{"parts": [{"inlineData": None}, {"inlineData": {"mimeType": "image/png", "data": 5}}]}]},
            {"generationConfig": [], "tools": None, "requests": 5, "systemInstruction": "x"},
            {"contents": [{"parts": [{"functionResponse": {"parts": [None, {"text": "x"}]}}]}]},
        ],
    )
    def test_a_body_of_an_odd_shape_has_some_estimate(self, odd):
        assert 0 < estimate_input_tokens(odd) < 5_000


class TestMedia:
    def test_image_tokens_depend_on_resolution_only(self):
        data = {"inlineData": {"mimeType": "image/jpeg", "data": "A" * 200_000}}
        nothing = estimate()
        assert 1_120 <= estimate(data) - nothing < 1_200
        low = estimate(data | {"mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}})
        everywhere = estimate(data, generationConfig={"mediaResolution": "MEDIA_RESOLUTION_LOW"})
        assert 280 <= low - nothing == everywhere - nothing < 300

    @pytest.mark.parametrize(
        "same", ["MEDIA_RESOLUTION_ULTRA_HIGH", "media_resolution_ultra_high", 4, {"level": 4}, {"level": "ULTRA_HIGH"}]
    )
    def test_a_resolution_is_read_in_every_spelling(self, same):
        data = {"inlineData": {"mimeType": "image/jpeg", "data": "A" * 200}}
        assert 2_240 <= estimate(data | {"mediaResolution": same}) - estimate() < 2_300

    def test_tokens_that_a_part_states_are_reserved(self):
        data = {"inlineData": {"mimeType": "image/jpeg", "data": "A" * 200}}
        for stated in (9_000, "9000"):
            assert 9_000 <= estimate(data | {"mediaResolution": {"numTokens": stated}}) < 9_100
        assert estimate(data | {"mediaResolution": {"numTokens": 3}}) == estimate(data)

    def test_more_bytes_are_more_pixels_pages_and_seconds(self):
        for mime in ("image/png", "application/pdf", "audio/mpeg", "video/mp4", "text/csv"):
            sizes = [media_tokens(mime, size) for size in (1_000, 700_000, 20_000_000)]
            assert sizes == sorted(sizes)
            assert sizes[0] < sizes[-1]

    @pytest.mark.parametrize(
        ("mime", "size_bytes", "counted"),
        [
            ("audio/wav", 60 * 32_000, 60 * 32),
            ("audio/mpeg", 600 * 16_000, 600 * 32),
            ("video/mp4", 120 * 250_000, 120 * 290),
            ("application/pdf", 30 * 60_000, 30 * 560),
            ("image/png", 1_500_000, 1_548),
        ],
    )
    def test_covers_usual_recordings_and_documents(self, mime, size_bytes, counted):
        assert media_tokens(mime, size_bytes) >= counted

    def test_frames_per_second_multiply_a_video(self):
        part = {"inlineData": {"mimeType": "video/mp4", "data": ""}}
        assert estimate(part | {"videoMetadata": {"fps": 5}}) > 4 * estimate(part)
        assert estimate(part | {"videoMetadata": {"fps": 1e9}}) < 30 * estimate(part)
        assert estimate(part | {"videoMetadata": {"fps": "5"}}) == estimate(part | {"videoMetadata": {"fps": 5}})
        for odd in ("x", "NaN", float("nan"), None, [], -3):
            assert estimate(part | {"videoMetadata": {"fps": odd}}) == estimate(part)
        assert estimate(part | {"videoMetadata": {"fps": "Infinity"}}) < 30 * estimate(part)
        assert estimate(part | {"videoMetadata": {"fps": 10**400}}) > 0

    def test_a_video_by_its_address_is_a_video(self):
        for host in (
            "www.youtube.com/watch?v=",
            "youtu.be/",
            "M.YouTube.com/shorts/",
            "www.youtube-nocookie.com/embed/",
        ):
            for mime_type in ("", "text/plain", "video/mp4"):
                assert estimate({"fileData": {"fileUri": f"https://{host}x", "mimeType": mime_type}}) > 90_000

    @pytest.mark.parametrize("mime_type", ["", "application/octet-stream"])
    def test_a_file_of_an_unknown_kind_may_be_a_video(self, mime_type):
        assert estimate({"fileData": {"fileUri": "https://host/v1beta/files/abc", "mimeType": mime_type}}) > 90_000

    def test_an_image_in_a_functions_response_is_an_image(self):
        image = {"inlineData": {"mimeType": "image/png", "data": "A" * 200_000}}
        assert estimate({"functionResponse": {"name": "f", "response": {}, "parts": [image]}}) < 1_300


def test_a_small_request_is_estimated_in_microseconds():
    request = orjson.loads(orjson.dumps(body({"text": ENGLISH}, generationConfig={"temperature": 0.5})))
    started = time.process_time()
    for _ in range(1_000):
        estimate_input_tokens(request)
    assert (time.process_time() - started) / 1_000 < 200e-6
