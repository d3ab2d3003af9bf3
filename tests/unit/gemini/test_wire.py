"""Reading native answers, and one spelling for native requests."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.gemini import wire
from shared.gemini.wire import block_reason, camel, finish_reason, merge_counts, model_version, text_of, usage
from shared.generation import UNKNOWN_USAGE, Usage

ANSWER = {
    "candidates": [
        {
            "content": {
                "parts": [
                    {"text": "Let me think.", "thought": True},
                    {"text": "Hel"},
                    {"functionCall": {"name": "f", "args": {}}},
                    {"text": "lo.", "thoughtSignature": "abc"},
                ],
                "role": "model",
            },
            "finishReason": "STOP",
            "index": 0,
        },
        {"content": {"parts": [{"text": "Second."}]}, "finishReason": "MAX_TOKENS", "index": 1},
    ],
    "usageMetadata": {
        "promptTokenCount": 20,
        "candidatesTokenCount": 9,
        "totalTokenCount": 227,
        "thoughtsTokenCount": 198,
        "serviceTier": "standard",
    },
    "modelVersion": "gemini-3.8-flash",
}
BLOCKED = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}


class TestReading:
    def test_an_answer(self):
        assert text_of(ANSWER) == "Hello."
        assert finish_reason(ANSWER) == "STOP"
        assert block_reason(ANSWER) is None
        assert model_version(ANSWER) == "gemini-3.8-flash"
        assert usage(ANSWER) == Usage(20, 9, 198, 227)

    def test_a_blocked_prompt(self):
        assert (text_of(BLOCKED), finish_reason(BLOCKED), block_reason(BLOCKED)) == ("", None, "SAFETY")
        assert usage(BLOCKED) == Usage(4, 0, 0, 4)

    def test_an_answer_whose_thoughts_took_all_the_tokens(self):
        body = {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}]}
        assert (text_of(body), finish_reason(body)) == ("", "MAX_TOKENS")

    def test_tool_tokens_count_as_prompt(self):
        body = {"usageMetadata": {"promptTokenCount": 10, "toolUsePromptTokenCount": 5, "candidatesTokenCount": 2}}
        assert usage(body) == Usage(15, 2, 0, 17)

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"candidates": None, "usageMetadata": None, "promptFeedback": None, "modelVersion": None},
            {"candidates": {}, "usageMetadata": [], "promptFeedback": "x", "modelVersion": 5},
            {"candidates": [None, 1, {"content": None}], "usageMetadata": {"promptTokenCount": "9"}},
            {"candidates": [{"content": {"parts": [None, {"text": None}, {"text": 5}]}}]},
            {"candidates": [{"index": 1, "finishReason": "STOP", "content": {"parts": [{"text": "not the first"}]}}]},
        ],
    )
    def test_missing_and_mistyped_fields_are_absent(self, body):
        assert (text_of(body), finish_reason(body), block_reason(body), model_version(body)) == ("", None, None, None)
        assert usage(body) == UNKNOWN_USAGE

    @pytest.mark.parametrize(
        ("told", "read"), [(-5, None), (2**31 - 1, 2**31 - 1), (2**31, 2**31 - 1), (10**30, 2**31 - 1)]
    )
    def test_a_count_is_what_googles_int32_can_be(self, told, read):
        """What no ledger can store would be reported to it again and again, and nothing else ever."""
        assert wire.usage({"usageMetadata": {"promptTokenCount": told}}).prompt_tokens == read

    @pytest.mark.parametrize(
        ("counts", "read"),
        [
            (None, UNKNOWN_USAGE),
            ([], UNKNOWN_USAGE),
            ({}, UNKNOWN_USAGE),
            ({"trafficType": "ON_DEMAND"}, UNKNOWN_USAGE),
            ({"promptTokenCount": 7}, Usage(7, 0, 0, 7)),
            ({"promptTokenCount": 7, "candidatesTokenCount": 3}, Usage(7, 3, 0, 10)),
            ({"promptTokenCount": 7, "candidatesTokenCount": 0, "totalTokenCount": 0}, Usage(7, 0, 0, 7)),
            ({"promptTokenCount": 7, "candidatesTokenCount": None, "totalTokenCount": 10}, Usage(7, None, 0, 10)),
            ({"promptTokenCount": 7, "thoughtsTokenCount": "3"}, Usage(7, 0, None, None)),
            ({"promptTokenCount": 7, "toolUsePromptTokenCount": None}, Usage(None, 0, 0, None)),
            ({"promptTokenCount": 7, "toolUsePromptTokenCount": 2}, Usage(9, 0, 0, 9)),
            ({"promptTokenCount": 7, "totalTokenCount": None}, Usage(7, 0, 0, 7)),
            ({"promptTokenCount": 0, "candidatesTokenCount": 3}, Usage(None, 3, None, None)),
            ({"promptTokenCount": None, "totalTokenCount": 10}, Usage(None, None, None, 10)),
            ({"promptTokenCount": "7", "totalTokenCount": "10"}, UNKNOWN_USAGE),
            ({"promptTokenCount": 7.0}, UNKNOWN_USAGE),
            ({"promptTokenCount": True}, UNKNOWN_USAGE),
            ({"promptTokenCount": [7]}, UNKNOWN_USAGE),
            ({"promptTokenCount": -7, "candidatesTokenCount": -1, "totalTokenCount": -8}, UNKNOWN_USAGE),
            ({"totalTokenCount": 10}, Usage(None, None, None, 10)),
            (dict.fromkeys(("promptTokenCount", "candidatesTokenCount", "totalTokenCount"), 0), UNKNOWN_USAGE),
        ],
    )
    def test_what_was_not_counted_is_unknown_and_not_zero(self, counts: Any, read: Usage) -> None:
        assert usage({"usageMetadata": counts}) == read

    @pytest.mark.parametrize(
        ("frames", "read"),
        [
            ([{}, None, {"promptTokenCount": 8}], Usage(8, 0, 0, 8)),
            (
                [{"promptTokenCount": 8, "totalTokenCount": 61, "candidatesTokenCount": 53}, {"promptTokenCount": 8}],
                (8, 53, 0, 61),
            ),
            ([{"promptTokenCount": 8, "candidatesTokenCount": 5}, {"candidatesTokenCount": None}], Usage(8, 5, 0, 13)),
            ([{"promptTokenCount": 8, "candidatesTokenCount": 5}, {"candidatesTokenCount": 0}], Usage(8, 5, 0, 13)),
            ([{"promptTokenCount": 8}, {"candidatesTokenCount": None}], Usage(8, None, 0, None)),
            ([{"candidatesTokenCount": None}, {"promptTokenCount": 8, "candidatesTokenCount": 5}], Usage(8, 5, 0, 13)),
            ([None, {"trafficType": "ON_DEMAND"}, None], UNKNOWN_USAGE),
            ([{"totalTokenCount": 5}, {"totalTokenCount": 9}], Usage(None, None, None, 9)),
        ],
    )
    def test_counts_of_frames_are_merged(self, frames: list[Any], read: Usage) -> None:
        """A later count replaces an earlier one; what is no count replaces nothing that is known."""
        merged = None
        for counts in frames:
            merged = merge_counts(merged, {"usageMetadata": counts})
        assert usage({"usageMetadata": merged}) == read

    def test_a_sum_with_an_unknown_count_is_unknown(self) -> None:
        assert Usage(1, 2, 3, 6).plus(Usage(10, None, 0, None)) == Usage(11, None, 3, None)

    @pytest.mark.parametrize(
        ("index", "read"),
        [(None, 0), (0, 0), (0.0, 0), ("0", 0), (1, 1), (1.0, 1), ("1", 1), (0.5, 0), ("x", 0), ([], 0), (True, 0)],
    )
    def test_an_index_is_read_in_any_spelling(self, index: Any, read: int) -> None:
        candidate = {"index": index, "finishReason": "STOP", "content": {"parts": [{"text": "a"}]}}
        assert wire.candidate_index(candidate) == read
        expected = ("a", "STOP") if read == 0 else ("", None)
        assert (text_of({"candidates": [candidate]}), finish_reason({"candidates": [candidate]})) == expected

    def test_null_reads_as_absent_in_every_field(self) -> None:
        part = dict.fromkeys(("thought", "thoughtSignature", "inlineData", "functionCall", "fileData"))
        content = {"role": None, "parts": [None, {**part, "text": "a"}, {**part, "text": None}]}
        candidate = {"index": None, "finishReason": None, "content": content, "safetyRatings": None}
        body = {
            "candidates": [None, candidate],
            "promptFeedback": {"blockReason": None},
            "modelVersion": None,
            "error": None,
        }
        read = (text_of(body), finish_reason(body), block_reason(body), model_version(body))
        assert read == ("a", None, None, None)
        assert not wire.finishes(candidate)

    def test_a_default_enum_reads_as_absent(self) -> None:
        unset = {"finishReason": "FINISH_REASON_UNSPECIFIED"}
        body = {"candidates": [unset], "promptFeedback": {"blockReason": "BLOCK_REASON_UNSPECIFIED"}}
        assert (finish_reason(body), block_reason(body), wire.finishes(unset)) == (None, None, False)

    def test_a_model_version_is_bounded(self) -> None:
        assert model_version({"modelVersion": "g" * wire.MAX_MODEL_VERSION_CHARS}) is not None
        assert model_version({"modelVersion": "g" * (wire.MAX_MODEL_VERSION_CHARS + 1)}) is None

    def test_stream_usage_is_that_of_the_last_frame(self):
        frames = [
            {"usageMetadata": {"promptTokenCount": 8, "totalTokenCount": 8}},
            {"usageMetadata": {"promptTokenCount": 8, "thoughtsTokenCount": 50, "totalTokenCount": 58}},
            {"usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 3, "totalTokenCount": 61}},
            {},
        ]
        counts = None
        for frame in frames:
            counts = merge_counts(counts, frame)
        assert usage({"usageMetadata": counts}) == Usage(8, 3, 50, 61)

    @pytest.mark.parametrize(
        ("counts", "tokens"),
        [
            (None, None),
            ({}, None),
            ({"promptTokenCount": 8}, 0),
            ({"promptTokenCount": 8, "cachedContentTokenCount": 5}, 5),
            ({"promptTokenCount": 8, "cachedContentTokenCount": "5"}, None),
            ({"promptTokenCount": 0}, None),
        ],
    )
    def test_cached_tokens_are_zero_only_beside_a_prompt(self, counts, tokens):
        assert wire.cached_tokens({"usageMetadata": counts}) == tokens

    @pytest.mark.parametrize(("message", "text"), [("Why.", "Why."), (None, ""), (5, ""), ("x" * 900, "x" * 500)])
    def test_finish_message(self, message, text):
        assert wire.finish_message({"candidates": [{"finishMessage": message}]}) == text
        assert wire.finish_message({}) == ""

    def test_all_parts_have_the_thoughts_too(self):
        parts = [{"text": "Hm.", "thought": True}, {"text": "Yes"}]
        body = {"candidates": [{"content": {"parts": [*parts, None]}}]}
        assert (wire.all_parts(body), wire.parts(body)) == (parts, parts[1:])


SNAKE = {
    "system_instruction": {"parts": [{"text": "snake_case stays in text"}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"inline_data": {"mime_type": "image/png", "data": "aGk="}},
                {"file_data": {"mime_type": "video/mp4", "file_uri": "x"}, "video_metadata": {"start_offset": "1s"}},
                {"function_call": {"name": "my_function", "args": {"mime_type": 1, "file_data": {"file_uri": 2}}}},
                {
                    "function_response": {
                        "name": "my_function",
                        "response": {"inline_data": 1},
                        "parts": [{"inline_data": {"mime_type": "a/b"}}],
                    }
                },
                {"text": "x", "thought_signature": "y"},
            ],
        }
    ],
    "tools": [
        {
            "function_declarations": [
                {
                    "name": "my_function",
                    "parameters_json_schema": {"properties": {"mime_type": {"type": "string"}, "response_schema": {}}},
                    "parameters": {"properties": {"file_uri": {"type": "STRING"}}, "property_ordering": ["file_uri"]},
                }
            ]
        },
        {"google_search": {}},
    ],
    "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["my_function"]}},
    "generation_config": {
        "max_output_tokens": 5,
        "response_mime_type": "application/json",
        "response_json_schema": {"properties": {"top_p": {"type": "number"}}},
        "thinking_config": {"include_thoughts": True, "thinking_level": "LOW"},
        "speech_config": {"voice_config": {"prebuilt_voice_config": {"voice_name": "Kore"}}},
    },
    "cached_content": "cachedContents/a_b",
    "labels": {"my_label": "x"},
    "some_new_field": {"inner_field": 1},
}
CAMEL = {
    "systemInstruction": {"parts": [{"text": "snake_case stays in text"}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
                {"fileData": {"mimeType": "video/mp4", "fileUri": "x"}, "videoMetadata": {"startOffset": "1s"}},
                {"functionCall": {"name": "my_function", "args": {"mime_type": 1, "file_data": {"file_uri": 2}}}},
                {
                    "functionResponse": {
                        "name": "my_function",
                        "response": {"inline_data": 1},
                        "parts": [{"inlineData": {"mimeType": "a/b"}}],
                    }
                },
                {"text": "x", "thoughtSignature": "y"},
            ],
        }
    ],
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "my_function",
                    "parametersJsonSchema": {"properties": {"mime_type": {"type": "string"}, "response_schema": {}}},
                    "parameters": {"properties": {"file_uri": {"type": "STRING"}}, "property_ordering": ["file_uri"]},
                }
            ]
        },
        {"googleSearch": {}},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["my_function"]}},
    "generationConfig": {
        "maxOutputTokens": 5,
        "responseMimeType": "application/json",
        "responseJsonSchema": {"properties": {"top_p": {"type": "number"}}},
        "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "LOW"},
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
    },
    "cachedContent": "cachedContents/a_b",
    "labels": {"my_label": "x"},
    "some_new_field": {"inner_field": 1},
}


class TestCamel:
    def test_only_the_structure_is_renamed(self):
        """Names in the caller's own data stay."""
        before = copy.deepcopy(SNAKE)
        assert camel(SNAKE) == CAMEL
        assert before == SNAKE

    def test_a_request_that_needs_no_change_is_the_same_object(self):
        assert camel(CAMEL) is CAMEL

    def test_mixed_spellings_come_out_as_one_and_keep_their_order(self):
        body = {
            "contents": [{"parts": [{"inlineData": {"mime_type": "a/b", "data": ""}}]}],
            "generation_config": {"topK": 1, "top_p": 2},
        }
        assert camel(body) == {
            "contents": [{"parts": [{"inlineData": {"mimeType": "a/b", "data": ""}}]}],
            "generationConfig": {"topK": 1, "topP": 2},
        }
        assert list(camel(body)) == ["contents", "generationConfig"]

    def test_where_both_spellings_are_given_camel_case_stays(self):
        assert camel({"cached_content": "a", "cachedContent": "b"}) == {"cachedContent": "b"}
        assert camel({"cachedContent": "b", "cached_content": "a"}) == {"cachedContent": "b"}

    def test_embeddings_and_counts_are_requests_too(self):
        assert camel({"requests": [{"task_type": "x", "output_dimensionality": 5, "content": {"parts": []}}]}) == {
            "requests": [{"taskType": "x", "outputDimensionality": 5, "content": {"parts": []}}]
        }
        assert camel({"generate_content_request": {"system_instruction": {"parts": []}}}) == {
            "generateContentRequest": {"systemInstruction": {"parts": []}}
        }

    def test_deep_nesting_does_not_exhaust_the_stack(self):
        deep: dict = {"function_response": {"parts": []}}
        lists: list = []
        for _ in range(5_000):
            deep = {"function_response": {"parts": [deep]}}
            lists = [lists]
        renamed = camel({"contents": [{"parts": [deep]}, lists]})
        assert "functionResponse" in renamed["contents"][0]["parts"][0]

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "contents",
                            "parts",
                            "inline_data",
                            "inlineData",
                            "mime_type",
                            "tools",
                            "generation_config",
                            "top_k",
                            "x_y",
                        ]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=20,
        )
    )
    def test_doing_it_twice_is_doing_it_once(self, value):
        body = value if isinstance(value, dict) else {"contents": value}
        once = camel(body)
        assert camel(once) is once


@pytest.mark.parametrize(
    ("config", "image", "text_only"),
    [
        ({"responseModalities": ["IMAGE"]}, True, False),
        ({"responseModalities": ["text", "image"]}, True, False),
        ({"responseModalities": ["TEXT"]}, False, True),
        ({"responseModalities": [2]}, True, False),
        ({"responseModalities": [1]}, False, True),
        ({"responseModalities": []}, False, False),
        ({"responseModalities": "IMAGE"}, False, False),
        ({}, False, False),
        (None, False, False),
    ],
)
def test_what_a_request_wants_to_be_answered_with(config: Any, image: bool, text_only: bool) -> None:
    asked = {"contents": [], "generationConfig": config}
    assert (wire.asks_for_image(asked), wire.asks_for_text_only(asked)) == (image, text_only)
