"""Google's refusals, word for word where they are known: keys, models, bodies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import MODEL, Asker

HI = {"role": "user", "parts": [{"text": "Hi"}]}


@pytest.mark.parametrize(
    ("key", "status", "reason", "words"),
    [
        ("my-invalid-key", 400, "API_KEY_INVALID", "API key not valid. Please pass a valid API key."),
        ("expired-1", 400, "API_KEY_INVALID", "API key expired. Please renew the API key."),
        (
            "suspended-1",
            403,
            "CONSUMER_SUSPENDED",
            "Permission denied: Consumer 'api_key:suspended-1' has been suspended.",
        ),
        ("leaked-1", 403, None, "Your API key was reported as leaked. Please use another API key."),
        ("depleted-1", 429, None, "Your prepayment credits are depleted. Please go to AI Studio at"),
        ("blocked-1", 403, "API_KEY_SERVICE_BLOCKED", "v1beta.GenerativeService.GenerateContent are blocked."),
        ("unauth-1", 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED", "Request had invalid authentication credentials."),
    ],
)
async def test_bad_key_is_rejected_by_its_words(
    ask: Asker, key: str, status: int, reason: str | None, words: str
) -> None:
    got, body = await ask.ask(key=key)
    assert got == status == body["error"]["code"]
    assert words in body["error"]["message"]
    details = body["error"].get("details", [])
    assert [detail["reason"] for detail in details if "reason" in detail] == ([reason] if reason else [])


async def test_exactly_one_credential_is_wanted(ask: Asker) -> None:
    url = f"{ask.emulator.url}/v1/models/{MODEL}:generateContent"
    cases: list[tuple[str, dict[str, str], int, str]] = [
        ("", {}, 403, "Method doesn't allow unregistered callers"),
        ("?key=a", {"x-goog-api-key": "b"}, 400, "Multiple authentication credentials received"),
        ("", {"x-goog-api-key": "b", "Authorization": "Bearer b"}, 400, "Multiple authentication credentials"),
        ("", {"Authorization": "Bearer b"}, 401, "Expected OAuth 2 access token"),
    ]
    for query, headers, status, words in cases:
        async with ask.session.post(url + query, headers=headers, json={"contents": [HI]}) as response:
            assert response.status == status
            assert words in (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    ("model", "version", "words"),
    [
        (
            "gemini-1.5-flash-latest",
            "v1beta",
            "models/gemini-1.5-flash-latest is not found for API version v1beta, or is not",
        ),
        ("gemini-2.0-flash-001", "v1", "is not found for API version v1, or is not supported for generateContent."),
        ("gemini-flash-latest", "v1", "is not found for API version v1,"),
        ("gemini-2.5-flash", "v1beta", "This model models/gemini-2.5-flash is no longer available to new users."),
        ("gemini-embedding-001", "v1beta", "or is not supported for generateContent."),
    ],
)
async def test_a_model_that_cannot_answer_is_a_404(ask: Asker, model: str, version: str, words: str) -> None:
    status, body = await ask.ask(model=model, version=version)
    assert (status, body["error"]["status"]) == (404, "NOT_FOUND")
    assert words in body["error"]["message"]


@pytest.mark.parametrize(
    ("asked", "version", "answers"),
    [
        ("gemini-3.7-flash", "v1", "gemini-3.8-flash"),
        ("gemini-3.5-flash", "v1beta", "gemini-3.6-flash"),
        ("gemini-flash-lite-latest", "v1beta", "gemini-3.5-flash-lite"),
    ],
)
async def test_a_deprecated_id_is_served_by_its_successor(ask: Asker, asked: str, version: str, answers: str) -> None:
    status, body = await ask.ask(model=asked, version=version)
    assert (status, body["modelVersion"]) == (200, answers)


async def test_a_method_that_is_not_served_is_a_404(ask: Asker) -> None:
    status, body = await ask.ask(method="predict", model="gemini-embedding-001")
    assert status == 404
    assert "or is not supported for predict." in body["error"]["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "* GenerateContentRequest.contents: contents is not specified\n"),
        ({}, "* GenerateContentRequest.contents: contents is not specified\n"),
        ({"contents": []}, "* GenerateContentRequest.contents: contents is not specified\n"),
        (
            {"contents": [HI, {"role": "model"}]},
            "* GenerateContentRequest.contents[1].parts: contents.parts must not be empty.\n",
        ),
        (
            {"contents": [{"parts": [{"text": "a"}, {"thought": True}]}]},
            "* GenerateContentRequest.contents[0].parts[1].data: required oneof field 'data' must have one initialized field\n",
        ),
        ({"contents": [{"parts": [{"text": ""}]}]}, "Request has empty input."),
        ({"contents": [{**HI, "role": "assistant"}]}, "Please use a valid role: user, model."),
        (
            {"contents": [HI, {"role": "model", "parts": [{"text": "x"}]}]},
            "Requests ending with a model turn are not supported.",
        ),
        (
            {"contents": [HI], "messages": []},
            'Invalid JSON payload received. Unknown name "messages": Cannot find field.',
        ),
        (
            {"contents": [{"parts": [{"txt": "a"}]}], "generation_config": {"maxTokens": 5}},
            "Invalid JSON payload received. Unknown name \"txt\" at 'contents[0].parts[0]': Cannot find field.\n"
            "Invalid JSON payload received. Unknown name \"maxTokens\" at 'generation_config': Cannot find field.",
        ),
        (
            {"contents": [HI], "generationConfig": {"responseSchema": {"type": ["string", "null"]}}},
            "Invalid JSON payload received. Unknown name \"type\" at 'generation_config.response_schema': "
            "Proto field is not repeating, cannot start list.",
        ),
        (
            {"contents": [HI], "generationConfig": {"responseSchema": {"properties": {"a": {}, "b": {"const": 1}}}}},
            'Invalid JSON payload received. Unknown name "const" at '
            "'generation_config.response_schema.properties[1].value': Cannot find field.",
        ),
        (
            {"contents": ["Hi"]},
            "Invalid value at 'contents[0]' (type.googleapis.com/google.ai.generativelanguage.v1beta.Content), \"Hi\"",
        ),
        ({"contents": [{"parts": [{"text": 5}]}]}, "Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), 5"),
        (
            {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "%%"}}]}]},
            "Invalid value at 'contents[0].parts[0].inline_data.data' (TYPE_BYTES), Base64 decoding failed for \"%%\"",
        ),
        (
            {"contents": [HI], "generationConfig": {"responseSchema": {"type": "text"}}},
            "Invalid value at 'generation_config.response_schema.type' "
            '(type.googleapis.com/google.ai.generativelanguage.v1beta.Type), "text"',
        ),
        (["Hi"], 'Invalid JSON payload received. Unknown name "": Root element must be a message.'),
    ],
)
async def test_invalid_body_is_rejected_in_googles_words(ask: Asker, body: Any, message: str) -> None:
    status, answer = await ask.ask(body=body if isinstance(body, bytes) else json.dumps(body).encode())
    assert (status, answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert answer["error"]["message"] == message


async def test_field_violations_are_listed_one_by_one(ask: Asker) -> None:
    _, body = await ask.ask(body={"contents": [HI], "x": 1, "generationConfig": {"y": 2}})
    (detail,) = body["error"]["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert [violation.get("field") for violation in detail["fieldViolations"]] == [None, "generation_config"]


@pytest.mark.parametrize("body", [b"{", b'{"contents": [}', b'{"a": 1,}', b"not json", b'{"contents": "\xff"}'])
async def test_malformed_json_is_refused(ask: Asker, body: bytes) -> None:
    assert (await ask.message(body=body)).startswith("Invalid JSON payload received. Unexpected ")


async def test_a_bottomless_body_is_refused(ask: Asker) -> None:
    schema = "".join('{"items":' for _ in range(900)) + "{}" + "}" * 900
    body = f'{{"contents":[{json.dumps(HI)}],"generationConfig":{{"responseSchema":{schema}}}}}'
    assert await ask.status(body=body.encode()) == 400


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"responseSchema": {"type": "STRING"}, "responseJsonSchema": {}, "responseMimeType": "application/json"},
            "must be omitted",
        ),
        ({"responseSchema": {"type": "STRING"}}, "only supported with response_mime_type `application/json`"),
        ({"responseMimeType": "text/html"}, "allowed mimetypes are `text/plain`, `application/json`"),
        (
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "unheard"}},
            "Request contains an invalid argument.",
        ),
        (
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "array", "minItems": 99_999}},
            "too many states for serving",
        ),
        ({"candidateCount": 9}, "candidate_count must be in the range [1, 8]."),
        ({"temperature": 2.1}, "temperature must be in the range [0, 2]."),
        ({"maxOutputTokens": 0}, "max_output_tokens must be positive."),
        ({"responseModalities": ["IMAGE"]}, "Model does not support the requested response modalities: image"),
        (
            {"thinkingConfig": {"thinkingLevel": "minimal"}},
            "Thinking level MINIMAL is not supported for this model. Please retry with other thinking level.",
        ),
        ({"thinkingConfig": {"thinkingBudget": 0}}, "Request contains an invalid argument."),
        (
            {"thinkingConfig": {"thinkingBudget": 5, "thinkingLevel": "LOW"}},
            "You can only set only one of thinking budget and thinking level.",
        ),
    ],
)
async def test_a_configuration_that_the_model_does_not_take_is_refused(ask: Asker, config: Any, words: str) -> None:
    assert words in await ask.message(**config)


async def test_thinking_levels_depend_on_the_family(ask: Asker) -> None:
    level = {"thinkingConfig": {"thinkingLevel": "MINIMAL"}}
    assert await ask.status(model="gemini-3.5-flash-lite", **level) == 200
    words = "Thinking level is not supported for this model."
    assert await ask.message(model="gemma-4-31b-it", **level) == words
    assert await ask.status(model="gemini-2.5-flash-lite", thinkingConfig={"thinkingBudget": 0}) == 200
    assert await ask.status(model="gemini-4-argon", thinkingConfig={"thinkingBudget": 100}) == 400


async def test_an_input_longer_than_the_model_reads_is_refused(ask: Asker) -> None:
    words = await ask.message("word " * 250_000, model="gemma-4-31b-it")
    assert words.startswith("The input token count (")
    assert words.endswith(") exceeds the maximum number of tokens allowed (262144).")


def _called(signature: str | None, answers: int = 1) -> list[dict[str, Any]]:
    call: dict[str, Any] = {"functionCall": {"name": "f", "args": {}}}
    if signature:
        call["thoughtSignature"] = signature
    response = {"functionResponse": {"name": "f", "response": {"ok": True}}}
    return [HI, {"role": "model", "parts": [call]}, {"role": "user", "parts": [response] * answers}]


async def test_function_call_needs_signature_and_answer(ask: Asker) -> None:
    words = await ask.message(body={"contents": _called(None)})
    assert "missing a thought_signature in functionCall parts" in words
    assert "function call `default_api:f` , position 2." in words
    words = await ask.message(body={"contents": _called("AAAA", answers=2)})
    assert words.startswith("Please ensure that the number of function response parts is equal")
    for contents in (_called("skip_thought_signature_validator"), [*_called(None), HI]):
        assert await ask.status(body={"contents": contents}) == 200


async def test_an_unknown_file_or_cache_is_not_permitted(ask: Asker) -> None:
    part = {"fileData": {"fileUri": f"{ask.emulator.url}/v1beta/files/abc", "mimeType": "text/plain"}}
    status, body = await ask.ask(body={"contents": [{"parts": [part]}]})
    assert (status, body["error"]["message"]) == (
        403,
        "You do not have permission to access the File abc or it may not exist.",
    )
    assert await ask.status(body={"contents": [HI], "cachedContent": "cachedContents/x"}) == 403


async def test_count_tokens_takes_either_shape_and_checks_it(ask: Asker) -> None:
    for body in ({"contents": [HI]}, {"generateContentRequest": {"model": f"models/{MODEL}", "contents": [HI]}}):
        status, answer = await ask.ask(method="countTokens", body=body)
        assert status == 200
        assert answer["promptTokensDetails"] == [{"modality": "TEXT", "tokenCount": answer["totalTokens"]}]
    assert await ask.status(method="countTokens", body={}) == 400


async def test_a_page_token_or_size_that_is_none_is_refused(ask: Asker) -> None:
    for query in ("pageToken=zzz", "pageSize=many"):
        async with ask.session.get(f"{ask.emulator.url}/v1/models?{query}&key=k") as response:
            assert response.status == 400
