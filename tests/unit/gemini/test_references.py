"""What a native body names that one project stores, and the thought signatures that it carries."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from shared.errors import BadRequest
from shared.gemini.references import (
    MAX_NAMES,
    PLACEHOLDER,
    file_name,
    named,
    replaced,
    says_missing,
    signatures,
    signatures_of_answer,
)
from shared.generation import FileSource, FileUri

URI = "https://generativelanguage.googleapis.com/v1beta/files/abc-123"


def names(body: dict[str, Any]) -> tuple[str, ...]:
    return named(body).bounded_things()


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts)}


def file(uri: str) -> dict[str, Any]:
    return {"fileData": {"fileUri": uri, "mimeType": "text/plain"}}


@pytest.mark.parametrize(
    "uri",
    [
        URI,
        "files/abc-123",
        "/files/abc-123",
        f" {URI}\n",
        URI.replace("https", "HTTPS").replace("googleapis", "GoogleAPIs"),
        URI.replace("v1beta", "v1"),
        URI.replace("/v1beta", ""),
        URI.replace("https://", ""),
        f"{URI}?alt=media",
        f"{URI}:download?alt=media",
        URI.replace("/files/", "/files%2F"),
        "http://127.0.0.1:8080/v1beta/files/abc-123",
        "https://a-proxy.example/gemini/v1beta/files/abc-123",
        "https://us-central1.generativelanguage.googleapis.com/upload/v1beta/files/abc-123",
    ],
)
def test_every_form_of_a_files_uri_is_its_name(uri: str) -> None:
    assert file_name(uri) == "files/abc-123"


@pytest.mark.parametrize(
    "uri",
    [
        "https://www.youtube.com/watch?v=files/abc",
        "gs://bucket/files/abc",
        "https://a.example/files/abc",
        "https://a.example/?u=/v1/file/abc",
        "files/",
        "",
    ],
)
def test_another_address_is_no_stored_file(uri: str) -> None:
    assert file_name(uri) is None


@pytest.mark.parametrize(
    "body",
    [
        {"contents": [user(file(URI))]},
        {"contents": user(file(URI))},
        {"contents": {"parts": file(URI)}},
        {"contents": [user({"text": "x"}, {"file_data": {"file_uri": URI}})]},
        {"contents": [user({"fileData": {"file_uri": URI}})]},
        {"contents": [user({"text": "x", **file(URI)})]},
        {"contents": [], "systemInstruction": {"parts": [file(URI)]}},
        {"contents": [], "system_instruction": {"parts": [file(URI)]}},
        {"contents": [user({"functionResponse": {"name": "f", "response": {}, "parts": [file(URI)]}})]},
        {"contents": [user({"function_response": {"name": "f", "parts": {"file_data": {"file_uri": URI}}}})]},
    ],
)
def test_a_file_is_found_wherever_gemini_reads_one(body: dict[str, Any]) -> None:
    assert names(body) == ("files/abc-123",)


@pytest.mark.parametrize(
    "body",
    [
        {"contents": [user({"text": URI})]},
        {"contents": [user({"functionCall": {"name": "f", "args": {"fileData": {"fileUri": URI}}}})]},
        {"contents": [user({"functionResponse": {"name": "f", "response": {"fileData": {"fileUri": URI}}}})]},
        {"contents": [user({"fileData": {"fileUri": 7}}, {"fileData": [URI]}, {"fileData": None})]},
        {"contents": [7, None, {"parts": [7, None, [file(URI)]]}], "tools": 7, "cachedContent": 7},
        {"contents": None},
        {},
    ],
)
def test_data_of_the_caller_and_wrong_types_name_nothing(body: dict[str, Any]) -> None:
    assert names(body) == ()


@pytest.mark.parametrize("field", ["cachedContent", "cached_content"])
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cachedContents/c", "cachedContents/c"),
        (" cachedContents/c ", "cachedContents/c"),
        ("projects/p/locations/global/cachedContents/1", "projects/p/locations/global/cachedContents/1"),
    ],
)
def test_a_cache_is_named(field: str, given: str, name: str) -> None:
    assert names({"contents": [], field: given}) == (name,)


def test_file_search_stores_are_named() -> None:
    one = {"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/a", "fileSearchStores/b"]}}
    other = {"file_search": {"file_search_store_names": "fileSearchStores/a"}}
    assert names({"tools": [one, other, {"codeExecution": {}}]}) == ("fileSearchStores/a", "fileSearchStores/b")


def test_each_name_is_reported_once() -> None:
    body = {
        "contents": [user(file(URI), file("files/other")), user(file("files/abc-123"))],
        "cachedContent": "cachedContents/c",
    }
    assert names(body) == ("cachedContents/c", "files/abc-123", "files/other")


def test_the_number_of_names_is_bounded() -> None:
    body = {"contents": [user(*(file(f"files/{number}") for number in range(MAX_NAMES)))]}
    assert len(names(body)) == MAX_NAMES
    body["contents"].append(user(file("files/one-more")))
    with pytest.raises(BadRequest, match=r"names 501 stored files; name at most 500\."):
        names(body)


def conversation() -> dict[str, Any]:
    return {
        "contents": [
            user({"text": "Go."}),
            {
                "role": "model",
                "parts": [{"functionCall": {"name": "f"}, "thoughtSignature": "A"}, {"functionCall": {"name": "g"}}],
            },
            user({"functionResponse": {"name": "f", "response": {"thoughtSignature": "A"}}}),
            {
                "role": "model",
                "parts": [{"text": "", "thought_signature": "B"}, {"text": "x", "thoughtSignature": PLACEHOLDER}],
            },
        ],
        "tools": [{"functionDeclarations": [{"name": "f"}]}],
    }


def test_signatures_are_in_the_conversations_order() -> None:
    assert signatures(conversation()) == ("A", "B")
    again = conversation()
    again["contents"].append({"role": "model", "parts": [{"text": "y", "thoughtSignature": "A"}]})
    assert signatures(again) == ("B", "A")
    assert signatures({"contents": [user({"text": "x"})]}) == ()


def test_only_the_given_signatures_are_replaced() -> None:
    body = conversation()
    before = copy.deepcopy(body)
    made = replaced(body, frozenset({"A"}), {})
    assert body == before
    assert signatures(made) == ("B",)
    first, second = made["contents"][1]["parts"]
    assert (first, second) == (
        {**before["contents"][1]["parts"][0], "thoughtSignature": PLACEHOLDER},
        {"functionCall": {"name": "g"}},
    )
    assert made["contents"][2] == before["contents"][2]
    assert made["tools"] is body["tools"]
    assert replaced(body, frozenset({"B"}), {})["contents"][3]["parts"][0] == {
        "text": "",
        "thought_signature": PLACEHOLDER,
    }


def test_signatures_of_an_answer() -> None:
    parts = [{"text": "x"}, {"text": "", "thoughtSignature": "A"}]
    assert list(signatures_of_answer({"candidates": [{"content": {"parts": parts}}, {"finishReason": "STOP"}]})) == [
        "A"
    ]
    assert list(signatures_of_answer({"promptFeedback": {"blockReason": "SAFETY"}})) == []


@pytest.mark.parametrize(
    ("message", "missing"),
    [
        ("You do not have permission to access the File abc or it may not exist.", True),
        ("CachedContent not found (or permission denied)", True),
        ("The caller does not have permission", False),
        ("models/x is not found for API version v1beta, or is not supported for generateContent.", False),
    ],
)
def test_geminis_sentences_about_missing_things(message: str, missing: bool) -> None:
    assert says_missing(message) is missing


def test_files_of_callers_are_found_and_get_their_uris() -> None:
    """Only the gateway's own type is one, and a body may name it more than once."""

    async def read(start: int, end: int) -> bytes:
        raise NotImplementedError

    source = FileSource("key", "file-1", "text/plain", 5, read)
    stored = {"fileData": {"mimeType": "text/plain", "fileUri": FileUri(source)}}
    body = {"contents": [user(stored, {"text": "x"}), user(stored, file("stored:file-1"))]}
    assert (named(body).files, names(body)) == ((source,), ())
    made = replaced(body, frozenset(), {"key": URI})["contents"]
    assert [part["fileData"]["fileUri"] for part in (made[0]["parts"][0], *made[1]["parts"])] == [
        URI,
        URI,
        "stored:file-1",
    ]
    assert {type(part["fileData"]["fileUri"]) for part in made[1]["parts"]} == {str}
    assert isinstance(body["contents"][0]["parts"][0]["fileData"]["fileUri"], FileUri)
