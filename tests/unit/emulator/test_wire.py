"""Bytes and headers: framing, content types, pretty-printing, both letter cases."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from .conftest import MODEL, Asker

STREAM = "streamGenerateContent?alt=sse"


async def test_unary_answer_is_pretty_json_with_headers(ask: Asker) -> None:
    async with ask.post() as response:
        body = await response.text()
        assert body == json.dumps(json.loads(body), indent=2, ensure_ascii=False) + "\n"
        headers = response.headers
    assert headers["Content-Type"] == "application/json; charset=UTF-8"
    assert headers["Server"] == "scaffolding on HTTPServer2"
    assert re.fullmatch(r"gfet4t7; dur=\d+", headers["Server-Timing"])
    assert headers["Vary"] == "Origin, X-Origin, Referer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not [name for name in headers if "ratelimit" in name.lower() or name.lower() == "retry-after"]


async def test_stream_is_crlf_events_without_a_done_mark(ask: Asker) -> None:
    async with ask.post(method=STREAM) as response:
        raw = await response.read()
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert raw.endswith(b"\r\n\r\n")
    events = raw.split(b"\r\n\r\n")[:-1]
    assert all(event.startswith(b'data: {"candidates": [') for event in events)
    assert b"\n" not in b"".join(events)
    assert b"[DONE]" not in raw
    frames = [json.loads(event[6:]) for event in events]
    assert all(frame["usageMetadata"]["promptTokenCount"] for frame in frames)
    assert len({(frame["modelVersion"], frame["responseId"]) for frame in frames}) == 1
    assert all("finishReason" not in frame["candidates"][0] for frame in frames[:-1])
    last = frames[-1]["candidates"][0]
    assert last["finishReason"] == "STOP"
    assert list(last["content"]["parts"][0]) == ["text", "thoughtSignature"]
    assert last["content"]["parts"][0]["text"] == ""


async def test_usage_grows_along_a_stream_and_ends_consistent(ask: Asker) -> None:
    async with ask.post(method=STREAM) as response:
        frames = [json.loads(event[6:]) for event in (await response.text()).split("\r\n\r\n")[:-1]]
    usages = [frame["usageMetadata"] for frame in frames]
    counts = [usage.get("candidatesTokenCount", 0) for usage in usages]
    assert counts == sorted(counts)
    for usage, count in zip(usages, counts, strict=True):
        assert usage["totalTokenCount"] == usage["promptTokenCount"] + count + usage["thoughtsTokenCount"]


async def test_a_stream_without_alt_sse_is_one_json_array(ask: Asker) -> None:
    async with ask.post(method="streamGenerateContent") as response:
        raw = await response.text()
    assert response.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert raw.startswith('[{\n  "candidates"')
    assert "\n,\r\n{" in raw
    frames = json.loads(raw)
    assert frames[-1]["candidates"][0]["finishReason"] == "STOP"
    text = "".join(frame["candidates"][0]["content"]["parts"][0]["text"] for frame in frames)
    assert text == await ask.text()


async def test_early_stream_error_is_json_as_event_stream(ask: Asker) -> None:
    async with ask.post("[[fault:503]]", method=STREAM) as response:
        body = await response.text()
    assert response.status == 503
    assert response.headers["Content-Type"] == "text/event-stream"
    assert body == json.dumps(json.loads(body), indent=2) + "\n"
    # The recorded answer of the real service has this length.
    assert len(body) == 198


async def test_an_error_of_the_key_is_json_on_the_stream_route_too(ask: Asker) -> None:
    async with ask.post(method=STREAM, key="invalid") as response:
        assert (response.status, response.headers["Content-Type"]) == (400, "application/json; charset=UTF-8")


@pytest.mark.parametrize("snake", [False, True])
async def test_both_letter_cases_mean_the_same_anywhere_in_the_body(ask: Asker, snake: bool) -> None:
    camel = {
        "contents": [{"parts": [{"text": "Look"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}],
        "systemInstruction": {"parts": [{"text": "Be kind"}]},
        "generationConfig": {"maxOutputTokens": 300, "thinkingConfig": {"includeThoughts": True}},
    }
    text = json.dumps(camel)
    if snake:
        text = re.sub(r'"(\w+)":', lambda m: '"' + re.sub("[A-Z]", lambda c: "_" + c[0].lower(), m[1]) + '":', text)
        assert "inline_data" in text
    status, body = await ask.ask(body=text.encode())
    assert status == 200
    thought, answer = body["candidates"][0]["content"]["parts"]
    assert thought["thought"] is True
    assert "image/png of 3 bytes" in answer["text"]
    assert "“Be kind”" in answer["text"]
    assert {"modality": "IMAGE", "tokenCount": 258} in body["usageMetadata"]["promptTokensDetails"]


async def test_a_path_that_no_method_has_is_an_html_404(ask: Asker) -> None:
    for method, path in (("GET", "/v2/models"), ("GET", f"/v1/models/{MODEL}:generateContent"), ("POST", "/v1/models")):
        async with ask.session.request(method, ask.emulator.url + path) as response:
            assert response.status == 404
            assert "Error 404 (Not Found)" in await response.text()


async def test_a_key_may_come_in_the_query(ask: Asker) -> None:
    url = f"{ask.emulator.url}/v1/models/{MODEL}:generateContent?key=in-query"
    async with ask.session.post(url, json={"contents": {"parts": {"text": "Hi"}}}) as response:
        assert response.status == 200
    assert ask.emulator.stats()["keys"]["in-query"]["admitted"] == 1


async def test_pipelined_requests_arrive_when_read(ask: Asker) -> None:
    host, port = ask.emulator.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b'{"contents":[{"parts":[{"text":"[[latency:100]]"}]}]}'
    request = (
        f"POST /v1/models/{MODEL}:generateContent HTTP/1.1\r\nHost: x\r\nx-goog-api-key: k\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    writer.write(request * 3)
    for _ in range(3):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        await reader.readexactly(int(re.search(rb"Content-Length: (\d+)", head)[1]))
    writer.close()
    await writer.wait_closed()
    arrivals = ask.emulator.stats(arrivals=True)["projects"]["k"]["models"][MODEL]["arrivals"]["at_s"]
    assert len(arrivals) == 3
    assert len(set(arrivals)) == 1, "all three were parsed from one read"


async def test_expect_100_continue_is_answered(ask: Asker) -> None:
    url = f"{ask.emulator.url}/v1/models/{MODEL}:generateContent?key=k"
    async with ask.session.post(url, json={"contents": {"parts": {"text": "Hi"}}}, expect100=True) as response:
        assert response.status == 200
