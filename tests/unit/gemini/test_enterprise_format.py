"""Native requests as questions to the assistant of Gemini Enterprise, and its answers as native frames."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from shared.gemini import wire
from shared.gemini.enterprise_format import AssistFrames, answer_files, missing_ability, question_of
from shared.gemini.errors import UpstreamFailure
from shared.gemini.reading import AnswerReader, Unreadable
from shared.generation import UNKNOWN_USAGE, JsonObject

PNG = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}


def user(*parts: Any) -> JsonObject:
    return {"role": "user", "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


def model(*parts: Any) -> JsonObject:
    return {**user(*parts), "role": "model"}


def replies(*contents: JsonObject, state: str = "IN_PROGRESS", **more: Any) -> JsonObject:
    listed = [{"groundedContent": {"content": {"role": "model", **content}}} for content in contents]
    return {"answer": {"state": state, "replies": listed, **more}, "assistToken": "t"}


# -- questions -------------------------------------------------------------------------------------------------------


def test_one_message_is_sent_as_it_is() -> None:
    question = question_of({"contents": [user("Hello,", "world")]}, makes_image=False)
    assert (question.text, question.files, question.tools, question.thoughts) == ("Hello,\nworld", (), {}, False)


def test_a_conversation_becomes_one_text() -> None:
    contents = [user("One?"), model({"text": "hm", "thought": True}, "First."), user("Two?")]
    question = question_of({"systemInstruction": user("Be brief."), "contents": contents}, makes_image=False)
    assert question.text == (
        "Follow this instruction:\nBe brief.\n\n"
        "The conversation so far:\nUser: One?\n\nAssistant: First.\n\n"
        "Answer the user's new message:\nTwo?"
    )


def test_files_are_named_where_they_stood() -> None:
    pdf = {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg=="}}
    jpeg = {"inlineData": {"mimeType": "image/jpeg", "data": "/9j/"}}
    question = question_of({"contents": [user("See", PNG), model("Yes."), user(pdf, jpeg, "and?")]}, makes_image=False)
    assert [(file.name, file.mime_type, file.data) for file in question.files] == [
        ("file-1.png", "image/png", "iVBORw0KGgo="),
        ("file-2.pdf", "application/pdf", "JVBERg=="),
        ("file-3.jpg", "image/jpeg", "/9j/"),
    ]
    assert "User: See\n[attached: file-1.png]" in question.text
    assert question.text.endswith("[attached: file-2.pdf]\n[attached: file-3.jpg]\nand?")
    assert "iVBOR" not in repr(question)


@pytest.mark.parametrize("odd", ["image/../../x", "image/", "image/svg+xml;x=1", "image/é"])
def test_a_file_name_has_no_text_of_the_caller(odd: str) -> None:
    blob = {"inlineData": {"mimeType": odd, "data": ""}}
    (file,) = question_of({"contents": [user(blob)]}, makes_image=False).files
    assert file.name in ("file-1.bin", "file-1.svg")


def test_search_and_images_are_tools_of_the_assistant() -> None:
    body = {"contents": [user("Hi")], "tools": [{"googleSearch": {}}]}
    assert question_of(body, makes_image=True).tools == {"webGroundingSpec": {}, "imageGenerationSpec": {}}


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({"tools": [{"functionDeclarations": [{"name": "f"}]}]}, "tools (functionDeclarations)"),
        ({"tools": {"codeExecution": {}}}, "tools (codeExecution)"),
        ({"cachedContent": "cachedContents/x"}, "cached content"),
        ({"continuationToken": "x"}, "continuation tokens"),
        ({"generationConfig": {"responseSchema": {"type": "STRING"}}}, "a response schema (responseSchema)"),
        ({"generationConfig": {"responseJsonSchema": {"type": "string"}}}, "a response schema (responseJsonSchema)"),
        ({"generationConfig": {"responseMimeType": "application/json"}}, "answers as application/json"),
        ({"generationConfig": {"candidateCount": 2}}, "more than one candidate"),
        ({"generationConfig": {"stopSequences": ["x"]}}, "stop sequences"),
        ({"generationConfig": {"responseModalities": ["AUDIO"]}}, "audio output"),
        ({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, "image output"),
        ({"generationConfig": {"speechConfig": {"languageCode": "de"}}}, "speech"),
        ({"contents": [user({"fileData": {"fileUri": "files/x"}})]}, "uploaded files (fileData)"),
        ({"contents": [model({"functionCall": {"name": "f"}})]}, "function calls"),
        ({"contents": [user({"functionResponse": {"name": "f"}})]}, "function responses"),
        ({"contents": [user({"inlineData": {"mimeType": "audio/mpeg"}})]}, "files of the type audio/mpeg"),
        ({"contents": [user({"inlineData": {}})]}, "files of the type unknown"),
        ({"systemInstruction": user({"inlineData": {"mimeType": "video/mp4"}})}, "files of the type video/mp4"),
        ({"contents": [user(*[PNG] * 11)]}, "more than 10 files"),
    ],
)
def test_what_an_assistant_cannot_do_is_named(body: JsonObject, missing: str) -> None:
    assert (missing_ability({"contents": [user("Hi")], **body}, image_output=False) or "").startswith(missing)


@pytest.mark.parametrize(
    "body",
    [
        {"contents": [user("Hi", PNG)]},
        {"contents": user("one content without a list")},
        {"contents": [user("Hi")], "tools": [{"googleSearch": {}}], "safetySettings": [{"category": "x"}]},
        {"contents": [user("Hi")], "generationConfig": {"temperature": 0, "maxOutputTokens": 5, "candidateCount": 1}},
        {"contents": [user("Hi")], "generationConfig": {"responseMimeType": "text/plain", "stopSequences": []}},
        {"contents": [user("Hi")], "generationConfig": None, "tools": None, "cachedContent": ""},
    ],
)
def test_hints_are_no_obstacle(body: JsonObject) -> None:
    assert missing_ability(body, image_output=False) is None


def test_an_account_with_image_output_may_be_asked_for_images() -> None:
    body = {"contents": [user("A house")], "generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}
    assert missing_ability(body, image_output=True) is None


# -- answers ---------------------------------------------------------------------------------------------------------


def test_replies_become_frames_and_the_last_one_stops() -> None:
    read = AssistFrames()
    assert read({"assistToken": "t"}) is None
    frame = read(replies({"text": "Hel"}, {"text": "lo"}))
    assert frame == {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "Hel"}, {"text": "lo"}]}, "index": 0}]
    }
    assert wire.usage(frame) == UNKNOWN_USAGE
    last = read({"answer": {"state": "SUCCEEDED"}})
    assert last == {"candidates": [{"content": {"role": "model"}, "index": 0, "finishReason": "STOP"}]}


def test_the_web_apps_wrapper_is_opened() -> None:
    frame = AssistFrames()({"uToken": "-", "streamAssistResponse": replies({"text": "Hi"}, state="SUCCEEDED")})
    assert frame is not None
    assert (wire.text_of(frame), wire.finish_reason(frame)) == ("Hi", "STOP")


@pytest.mark.parametrize("asked", [False, True])
def test_thoughts_are_shown_to_those_who_ask(asked: bool) -> None:
    frame = AssistFrames(thoughts=asked)(replies({"text": "Hm.", "thought": True}, {"text": "Hi"}))
    assert frame is not None
    parts = frame["candidates"][0]["content"]["parts"]
    assert parts == ([{"text": "Hm.", "thought": True}] if asked else []) + [{"text": "Hi"}]


@pytest.mark.parametrize(
    ("reasons", "reason"),
    [(["CUSTOMER_POLICY_VIOLATION"], "BLOCKLIST"), (["NON_ASSIST_SEEKING_QUERY_IGNORED"], "OTHER"), ([], "OTHER")],
)
def test_a_skipped_request_is_a_blocked_prompt(reasons: list[str], reason: str) -> None:
    frame = AssistFrames()({"answer": {"state": "SKIPPED", "assistSkippedReasons": reasons}})
    assert frame is not None
    assert (wire.block_reason(frame), wire.candidates(frame)) == (reason, [])
    assert ", ".join(reasons) in frame["promptFeedback"]["blockReasonMessage"]


def test_an_answer_that_is_skipped_in_the_middle_is_stopped() -> None:
    read = AssistFrames()
    read(replies({"text": "To build a"}))
    frame = read({"answer": {"state": "SKIPPED", "assistSkippedReasons": ["CUSTOMER_POLICY_VIOLATION"]}})
    assert frame is not None
    assert wire.finish_reason(frame) == "BLOCKLIST"
    assert "CUSTOMER_POLICY_VIOLATION" in frame["candidates"][0]["finishMessage"]


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_an_answer_that_was_given_up_is_a_failure(state: str) -> None:
    with pytest.raises(UpstreamFailure, match=state) as raised:
        AssistFrames()(replies({"text": "Hi"}, state=state))
    assert raised.value.remedy == "same_account"


def test_files_and_data_of_an_answer() -> None:
    blob = {"mimeType": "image/png", "data": "iVBORw0KGgo="}
    file = {"fileId": "77", "mimeType": "image/png", "name": "house.png"}
    frame = AssistFrames()(replies({"inlineData": blob}, {"file": file}, {"executableCode": {"code": "1"}}))
    assert frame is not None
    assert answer_files(frame) == [{"fileData": {"mimeType": "image/png", "fileUri": "77"}}]
    assert wire.parts(frame)[0] == {"inlineData": blob}
    assert wire.parts(frame)[2] == {"executableCode": {"code": "1"}}


def test_an_error_passes_unchanged() -> None:
    error = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}
    assert AssistFrames()(error) is error


@pytest.mark.parametrize(
    "document",
    [
        {"answer": None},
        {"answer": []},
        {"answer": {"replies": None}},
        {"answer": {"replies": {"groundedContent": 1}}},
        {"answer": {"replies": [1, None, "x", {"groundedContent": {"content": [1]}}]}},
        {"answer": {"replies": [{"groundedContent": {"content": {"text": 5, "file": {"fileId": 1}}}}]}},
        {"answer": {"state": 7}},
        {"streamAssistResponse": "x"},
        {"streamAssistResponse": {"answer": {"state": ["IN_PROGRESS"]}}},
    ],
)
def test_odd_documents_add_nothing(document: JsonObject) -> None:
    assert AssistFrames()(document) is None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_an_array_is_read_wherever_it_is_cut(size: int) -> None:
    text = 'a "quoted" {brace} [and] \\\\ back\u00e9\U0001f600'
    documents = [{"assistToken": "t"}, replies({"text": text}), replies({"text": "!"}, state="SUCCEEDED")]
    reader = AnswerReader("", 10_000, translate=AssistFrames())
    body, frames = orjson.dumps(documents, option=orjson.OPT_INDENT_2), []
    for at in range(0, len(body), size):
        reader.feed(body[at : at + size])
        while (frame := reader.next()) is not None:
            frames.append(frame)
    reader.end()
    assert [wire.text_of(frame) for frame in frames] == [text, "!"]
    assert reader.complete


@pytest.mark.parametrize(
    "body", [b"[", b"[]", b"[{", b'[{"answer":{"state":"IN_PROGRESS"}}', b'[{"answer": {"replies"']
)
def test_an_answer_without_its_end_is_not_complete(body: bytes) -> None:
    reader = AnswerReader("", 10_000, translate=AssistFrames())
    reader.feed(body)
    reader.end()
    try:
        assert reader.next() is None
    except Unreadable as error:
        assert error.cut_short
    assert not reader.complete
