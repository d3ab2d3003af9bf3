"""What fails after the handler: the caller has an error response all the same, and the log has its record."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from starlette.responses import Response

from shared.errors import BadRequest, Unavailable
from shared.generation import JsonObject
from shared.http import endpoint
from shared.http.api_format import ApiFormat
from shared.http.endpoint import Call
from shared.http.event_stream import EventStream
from tests.support.edge import ADMIN, Answer, FakeServices
from tests.unit.http.test_endpoint import failing, labels, records, thing


def assert_error(answer: Answer, output: str, code: str = "internal_error", status: int = 500) -> None:
    """The caller has an error response with the headers of every response, and the log has its record."""
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.error["request_id"] == answer.headers["x-request-id"] == "id-1"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    (request,) = [record for record in records(output) if "httpRequest" in record]
    assert (labels(request)["outcome"], request["httpRequest"]["status"]) == (code, status)


class TestFailingAfterTheHandler:
    HEADERS: ClassVar = {**ADMIN, "x-request-id": "id-1"}

    @pytest.mark.parametrize("result", [{"a": object()}, {"text": "\ud83d"}, {"n": 2**70}, object()])
    async def test_a_result_that_is_not_json(self, result: Any, capsys: pytest.CaptureFixture[str]) -> None:
        async def run(call: Call) -> JsonObject:
            return result

        assert_error(await thing(run).ask(json={}, headers=self.HEADERS), capsys.readouterr().out)

    @pytest.mark.parametrize("value", [None, 5, b"bytes"])
    async def test_a_reply_header_that_is_not_text(self, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
        async def run(call: Call) -> JsonObject:
            await call.generate("some-model", {})
            call.timeline.models = ("some-model", value)
            return {}

        assert_error(await thing(run).ask(json={}, headers=self.HEADERS), capsys.readouterr().out)

    @pytest.mark.parametrize("step", ["server_timing", "cors_headers", "generation_headers"])
    async def test_a_header_that_cannot_be_built(
        self, step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The other headers are there."""

        def fail(*_: Any) -> Any:
            raise RuntimeError

        async def run(call: Call) -> JsonObject:
            await call.generate("some-model", {})
            return {}

        monkeypatch.setattr(endpoint, step, fail)
        answer = await thing(run).ask(json={}, headers=self.HEADERS)
        if step == "cors_headers":
            answer.headers["access-control-allow-origin"] = "*"
        assert_error(answer, capsys.readouterr().out)
        assert ("server-timing" in answer.headers) == (step != "server_timing")
        assert ("x-model-used" in answer.headers) == (step != "generation_headers")

    @pytest.mark.parametrize(
        "error",
        [
            BadRequest("Wrong.", details={"a": object()}),
            BadRequest("Wrong: \ud83d."),
            Unavailable("No.", headers={"x-limit": 5}),  # type: ignore[dict-item]
        ],
    )
    async def test_an_error_that_is_not_json(self, error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
        assert_error(await failing(error).ask(headers=self.HEADERS), capsys.readouterr().out)

    async def test_an_error_format_that_fails(self, capsys: pytest.CaptureFixture[str]) -> None:
        def fail(error: Exception, request_id: str) -> JsonObject:
            raise RuntimeError

        answer = await thing(api=ApiFormat(error_body=fail)).ask("GET", headers=self.HEADERS)
        assert_error(answer, capsys.readouterr().out)

    async def test_an_error_header_is_made_fit(self) -> None:
        answer = await failing(Unavailable("No.", headers={"x-reason": "a\r\nb: 模"})).ask()
        assert (answer.status, answer.headers["x-reason"]) == (503, "a%0D%0Ab:%20%E6%A8%A1")

    async def test_a_stream_whose_headers_fail_is_closed(self, capsys: pytest.CaptureFixture[str]) -> None:
        closed = []

        async def events() -> Any:
            try:
                yield {"text": "a"}
                yield {"text": "b"}
            finally:
                closed.append(True)

        async def run(call: Call) -> Response:
            await call.generate("some-model", {})
            call.timeline.models = ("some-model", None)  # type: ignore[assignment]
            return EventStream(events(), call.deadline_s)

        assert_error(await thing(run).ask(json={}, headers=self.HEADERS), capsys.readouterr().out)
        assert closed == [True]

    @pytest.mark.parametrize("bad", [{"text": object()}, BadRequest("Wrong.", details={"a": object()})])
    async def test_a_stream_that_fails_ends_with_an_error_event(
        self, bad: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async def events() -> Any:
            yield {"text": "a"}
            if isinstance(bad, Exception):
                raise bad
            yield bad

        async def run(call: Call) -> Response:
            return EventStream(events(), call.deadline_s)

        answer = await thing(run).ask(json={}, headers=self.HEADERS)
        (_, first), (name, last) = answer.events()
        assert (answer.complete, first, name) == (True, {"text": "a"}, "error")
        assert (last["error"]["code"], last["error"]["request_id"]) == ("internal_error", "id-1")
        (request,) = [record for record in records(capsys.readouterr().out) if "httpRequest" in record]
        assert labels(request)["outcome"] == "internal_error"

    @pytest.mark.parametrize("step", ["spans", "export"])
    async def test_tracing_that_fails_costs_no_response(self, step: str, capsys: pytest.CaptureFixture[str]) -> None:
        class Broken:
            def spans(self, record: Any) -> list[int]:
                return [1 // (step != "spans")]

            async def export(self, spans: Any) -> None:
                raise RuntimeError

        services = FakeServices()
        services.tracer = Broken()
        answer = await thing(services=services).ask(json={})
        assert answer.status == 200
        defect, request = sorted(records(capsys.readouterr().out), key=lambda record: "httpRequest" in record)
        assert defect["severity"] == "ERROR"
        assert labels(request)["outcome"] == "ok"


class TestTextsFromUpstream:
    @pytest.mark.parametrize(
        ("version", "header"),
        [
            ("gemini-模型", "gemini-%E6%A8%A1%E5%9E%8B"),
            ("a\r\nset-cookie: b", "a%0D%0Aset-cookie:%20b"),
            ("é", "%C3%A9"),
        ],
    )
    async def test_a_text_from_upstream_is_made_fit(self, version: str, header: str) -> None:
        async def run(call: Call) -> JsonObject:
            await call.generate("some-model", {})
            call.timeline.models = ("some-model", version)
            return {}

        answer = await thing(run).ask(json={})
        assert (answer.status, answer.headers["x-model-used"]) == (200, header)
        assert "set-cookie" not in answer.headers
