"""Messages as the contents of a native request: turns, instructions, function calls and their results."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import orjson
import pytest

from shared.errors import BadRequest
from shared.gemini.models import info_of
from shared.gemini.references import PLACEHOLDER
from shared.generation import JsonObject
from shared.http.bodies import read
from shared.openai_format import conversation
from shared.openai_format.chat_body import ChatBody
from shared.openai_format.conversation import MAX_DEPTH
from shared.openai_format.translation import Resolved, references, translate
from tests.support.image_samples import written
from tests.support.openai_chat import HELLO, contents, refused, sent

PNG = b64encode(written("PNG")).decode()


def call(call_id: str, name: str = "weather", arguments: str = "{}", **more: Any) -> JsonObject:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def calls(*made: JsonObject, content: Any = None) -> JsonObject:
    return {"role": "assistant", "content": content, "tool_calls": list(made)}


def nested(levels: int) -> str:
    """A JSON object with so many levels."""
    return '{"a":' * levels + "1" + "}" * levels


def result(call_id: str, content: Any = "sunny") -> JsonObject:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def text(role: str, said: str) -> JsonObject:
    return {"role": role, "parts": [{"text": said}]}


def response(number: int, answer: JsonObject) -> JsonObject:
    return {"functionResponse": {"name": "weather", "response": answer, "id": f"call_{number}"}}


def test_turns_keep_their_order() -> None:
    assert contents(HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "And?"}) == [
        text("user", "Hello"),
        text("model", "Hi"),
        text("user", "And?"),
    ]


def test_leading_instructions_are_the_system_instruction() -> None:
    """Those of both roles, in order; blank ones are left out."""
    body = sent(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
                {"role": "system", "content": " "},
                HELLO,
            ]
        }
    ).body
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}
    assert body["contents"] == [text("user", "Hello")]


def test_later_instruction_is_a_user_turn_in_its_place() -> None:
    later = {"role": "system", "content": "Now answer in French."}
    body = sent({"messages": [HELLO, {"role": "assistant", "content": "Hi"}, later, HELLO]}).body
    assert "systemInstruction" not in body
    assert body["contents"][2] == text("user", "Now answer in French.")


def test_instructions_alone_are_a_user_turn() -> None:
    assert contents({"role": "system", "content": "Write a poem."}) == [text("user", "Write a poem.")]


def test_assistant_messages_in_a_row_are_one_turn() -> None:
    """Gemini rejects a function call after a model's turn."""
    said = {"role": "assistant", "content": "Let me look."}
    found = contents(HELLO, said, calls(call("a")), result("a"))
    assert [one["role"] for one in found] == ["user", "model", "user"]
    assert [next(iter(part)) for part in found[1]["parts"]] == ["text", "functionCall"]


def test_assistant_message_without_content_is_left_out() -> None:
    assert contents(HELLO, {"role": "assistant", "content": ""}, HELLO) == [text("user", "Hello")] * 2
    assert contents(HELLO, {"role": "assistant", "content": None}, HELLO) == [text("user", "Hello")] * 2


def test_refusal_is_the_text_of_a_message_without_content() -> None:
    refusal = {"role": "assistant", "content": None, "refusal": "I cannot."}
    assert contents(HELLO, refusal, HELLO)[1] == text("model", "I cannot.")
    in_parts = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    assert contents(HELLO, in_parts, HELLO)[1] == text("model", "I cannot.")


def test_empty_text_beside_other_parts_is_left_out() -> None:
    """Vertex AI rejects one."""
    parts = [{"type": "text", "text": ""}, {"type": "text", "text": "Hello"}]
    assert contents({"role": "user", "content": parts}) == [text("user", "Hello")]


# -- function calls ----------------------------------------------------------------------------------------------------


def test_parallel_results_are_one_turn_in_the_order_of_the_calls() -> None:
    found = contents(
        HELLO, calls(call("a", arguments='{"city": "Paris"}'), call("b")), result("b", "rain"), result("a")
    )
    assert found[1]["parts"][0] == {
        "functionCall": {"name": "weather", "args": {"city": "Paris"}, "id": "call_1"},
        "thoughtSignature": PLACEHOLDER,
    }
    assert found[2] == {"role": "user", "parts": [response(1, {"result": "sunny"}), response(2, {"result": "rain"})]}


def test_parallel_calls_in_messages_of_their_own_are_one_turn() -> None:
    """Some clients that speak another API to their users send them so."""
    found = contents(HELLO, calls(call("a")), calls(call("b"), content="Wait."), result("a"), result("b", "rain"))
    assert [next(iter(part)) for part in found[1]["parts"]] == ["text", "functionCall", "functionCall"]
    assert found[2]["parts"] == [response(1, {"result": "sunny"}), response(2, {"result": "rain"})]


def test_ids_are_numbered_through_the_conversation() -> None:
    """Clients repeat ids in later turns."""
    found = contents(HELLO, calls(call("a")), result("a"), calls(call("a")), result("a"))
    ids = [next(iter(part.values()))["id"] for one in found[1:] for part in one["parts"]]
    assert ids == ["call_1", "call_1", "call_2", "call_2"]


def test_older_models_get_no_ids() -> None:
    body = read(ChatBody, {"messages": [HELLO, calls(call("a")), result("a")]})
    found = translate(body, Resolved(), info_of("gemini-2.5-flash-lite")).body["contents"]
    assert "id" not in found[1]["parts"][0]["functionCall"]
    assert "id" not in found[2]["parts"][0]["functionResponse"]


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ('{"degrees": 21}', {"degrees": 21}),
        (' {"degrees": 21} ', {"degrees": 21}),
        ("21 degrees", {"result": "21 degrees"}),
        ("", {"result": ""}),
        ("[1, 2]", {"result": "[1, 2]"}),
        ("{broken", {"result": "{broken"}),
        ('{"id": 12345678901234567890}', {"result": '{"id": 12345678901234567890}'}),
        ([{"type": "text", "text": "21"}, {"type": "text", "text": "degrees"}], {"result": "21\ndegrees"}),
    ],
)
def test_result_is_an_object_or_has_the_text(content: Any, answer: JsonObject) -> None:
    """A long number stays a text, because Google reads numbers as doubles."""
    assert contents(HELLO, calls(call("a")), result("a", content))[2]["parts"] == [response(1, answer)]


def test_images_of_a_result_are_its_parts() -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    found = contents(HELLO, calls(call("a")), result("a", [{"type": "text", "text": "a map"}, image]))
    answer = found[2]["parts"][0]["functionResponse"]
    assert answer["response"] == {"result": "a map"}
    assert answer["parts"] == [{"inlineData": {"mimeType": "image/png", "data": PNG}}]


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    found = contents(HELLO, calls(call("a", arguments=arguments)), result("a"))
    assert found[1]["parts"][0]["functionCall"]["args"] == {}


# -- thought signatures ------------------------------------------------------------------------------------------------


def signatures_of(*made: JsonObject, known: dict[str, str] | None = None) -> list[tuple[str, str | None]]:
    """(name, signature) of each call of one turn as it is sent."""
    messages = [HELLO, calls(*made), *(result(one["id"]) for one in made)]
    found = contents(*messages, resolved=Resolved(signatures=known or {}))
    return [(part["functionCall"]["name"], part.get("thoughtSignature")) for part in found[1]["parts"]]


def test_known_signature_is_sent() -> None:
    assert signatures_of(call("a"), call("b"), known={"a": "c2ln"}) == [("weather", "c2ln"), ("weather", None)]


def test_signature_that_the_client_kept_comes_first() -> None:
    """Where Google's own OpenAI endpoint puts it."""
    kept = call("a", extra_content={"google": {"thought_signature": "a2VwdA=="}})
    assert signatures_of(kept, known={"a": "c2ln"}) == [("weather", "a2VwdA==")]


@pytest.mark.parametrize("kept", ["", " ", "x", "not base64!", None])
def test_text_that_is_no_signature_is_not_sent(kept: str | None) -> None:
    """Gemini rejects a signature that is not base64."""
    cut = call("a", extra_content={"google": {"thought_signature": kept}})
    assert signatures_of(cut, known={"a": "c2ln"}) == [("weather", "c2ln")]


def test_unknown_signature_is_the_placeholder_on_the_first_call() -> None:
    assert signatures_of(call("a"), call("b")) == [("weather", PLACEHOLDER), ("weather", None)]


def test_signed_call_comes_first_again() -> None:
    """A client may change the order of parallel calls; Gemini signed the first."""
    sent_calls = signatures_of(call("b", "second"), call("a", "first"), known={"a": "c2ln"})
    assert sent_calls == [("first", "c2ln"), ("second", None)]


def test_each_turn_of_calls_is_signed() -> None:
    found = contents(
        HELLO, calls(call("a")), result("a"), calls(call("b")), result("b"), resolved=Resolved(signatures={"b": "c2ln"})
    )
    assert [one["parts"][0].get("thoughtSignature") for one in found[1::2]] == [PLACEHOLDER, "c2ln"]


def test_references_name_calls_without_a_signature_of_their_own() -> None:
    kept = call("a", extra_content={"google": {"thought_signature": "a2VwdA=="}})
    body = read(ChatBody, {"messages": [HELLO, calls(kept, call("b")), result("a"), result("b")]})
    assert references(body).call_ids == ("b",)


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "field", "says"),
    [
        ([calls(call("a"), call("b")), result("a")], "messages[1].tool_calls[1].id", "tool_call_id b."),
        ([calls(call("a"))], "messages[1].tool_calls[0].id", "has no result"),
        ([calls(call("a")), HELLO, result("a")], "messages[1].tool_calls[0].id", "has no result"),
        ([calls(call("a")), result("b")], "messages[2].tool_call_id", "is b, which no call"),
        ([calls(call("a")), result("a"), result("a")], "messages[3].tool_call_id", "a second time"),
        ([calls(call("a"), call("a")), result("a")], "messages[1].tool_calls[1].id", "a second time"),
        ([calls(call("a")), calls(call("a")), result("a")], "messages[2].tool_calls[0].id", "a second time"),
        ([result("a")], "messages[1].role", "right after the assistant message"),
        (
            [calls(call("a", arguments="[1]")), result("a")],
            "messages[1].tool_calls[0].function.arguments",
            "is a list in JSON",
        ),
        ([calls(call("a", arguments="{")), result("a")], "messages[1].tool_calls[0].function.arguments", "is not JSON"),
        (
            [calls(call("a", arguments=nested(MAX_DEPTH + 1))), result("a")],
            "messages[1].tool_calls[0].function.arguments",
            "at most 200 levels",
        ),
    ],
)
def test_calls_and_results_that_do_not_match_are_refused(messages: list[Any], field: str, says: str) -> None:
    named, message = refused({"messages": [HELLO, *messages]})
    assert named == field
    assert says in message


@pytest.mark.parametrize("role", ["assistant", "system"])
def test_messages_without_content_are_refused(role: str) -> None:
    """Gemini would reject the request, which would have taken a permit."""
    empty = [{"role": "system", "content": "Be brief."}, {"role": "assistant", "content": ""}]
    named, message = refused({"messages": empty if role == "system" else empty[1:]})
    assert named == "messages"
    assert "have no content" in message


def test_long_id_is_shown_in_part() -> None:
    _, message = refused({"messages": [HELLO, calls(call("x" * 5_000))]})
    assert len(message) < 400


def test_values_of_all_arguments_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of the body does not see inside its texts."""
    monkeypatch.setattr(conversation, "MAX_VALUES", 100)
    wide = orjson.dumps({"list": list(range(80))}).decode()
    assert contents(HELLO, calls(call("a", arguments=wide)), result("a"))
    with pytest.raises(BadRequest, match="more than 100 values"):
        contents(HELLO, calls(call("a", arguments=wide), call("b", arguments=wide)), result("a"), result("b"))


def test_a_result_that_cannot_be_an_object_is_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function may return any text: the caller cannot change it."""
    monkeypatch.setattr(conversation, "MAX_VALUES", 300)
    for returned in (nested(MAX_DEPTH + 1), nested(2_000), orjson.dumps({"list": list(range(301))}).decode(), "{"):
        found = contents(HELLO, calls(call("a")), result("a", returned))
        assert found[2]["parts"][0]["functionResponse"]["response"] == {"result": returned}


def test_the_deepest_result_is_an_object_that_can_be_sent() -> None:
    found = contents(HELLO, calls(call("a")), result("a", nested(MAX_DEPTH)))
    assert "a" in found[2]["parts"][0]["functionResponse"]["response"]
    assert orjson.dumps({"contents": found})
