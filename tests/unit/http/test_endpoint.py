"""The HTTP edge: what every function's answers have in common, whatever it does."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import pytest
from starlette.responses import Response

from shared.chat.chat import chat_events
from shared.clock import elapsed_s
from shared.errors import (
    BadRequest,
    DailyQuotaExhausted,
    NoServerKey,
    NotFound,
    QueueTimeout,
    Unavailable,
    UpstreamFailed,
)
from shared.generation import JsonObject
from shared.http.api_format import ApiFormat
from shared.http.endpoint import Call, EndpointApp
from shared.http.event_stream import Events, EventStream
from shared.http.manifest import Manifest
from shared.http.response import JsonResponse
from shared.settings.settings import SettingsError
from tests.support.edge import ADMIN, ADMIN_KEY, Answer, FakeGateway, FakeServices, ask, native

OWN = {"credentials": {"gemini_api_key": "AQ.callers-own-key"}}


def manifest(access: Any = "credential", paths: dict[str, tuple[str, ...]] | None = None, also: Any = None) -> Manifest:
    return Manifest("thing", "A thing.", paths or {"/thing": ("POST",)}, access, 512, 1, 80, 60, (), also=also or {})


class Thing:
    """A function whose handler says what it was called with; `run` is replaced by tests that need another one."""

    def __init__(
        self,
        services: FakeServices | None = None,
        access: Any = "credential",
        paths: Any = None,
        also: Any = None,
        **edge: Any,
    ) -> None:
        self.services = services or FakeServices()
        self.calls: list[Call] = []
        self.edge = EndpointApp(self._handle, manifest(access, paths, also), services=lambda: self.services, **edge)

    async def _handle(self, call: Call) -> Response | JsonObject:
        self.calls.append(call)
        return await self.run(call)

    async def run(self, call: Call) -> Response | JsonObject:
        return {"said": await call.json()}

    async def ask(self, method: str = "POST", path: str = "/thing", **rest: Any) -> Answer:
        rest.setdefault("headers", ADMIN)
        return await ask(self.edge.answer, method, path, **rest)


def thing(run: Any = None, **rest: Any) -> Thing:
    made = Thing(**rest)
    if run is not None:
        made.run = run  # type: ignore[method-assign]
    return made


async def shown(_: Call) -> JsonObject:
    return {}


def failing(error: Exception) -> Thing:
    async def run(call: Call) -> JsonObject:
        raise error

    return thing(run)


def records(output: str) -> list[JsonObject]:
    return [orjson.loads(line) for line in output.splitlines()]


def labels(record: JsonObject) -> dict[str, str]:
    return record["logging.googleapis.com/labels"]


class TestRoutes:
    @pytest.mark.parametrize("path", ["/thing", "/thing/", "/"])
    async def test_a_function_of_one_path_answers_on_it_and_on_the_root(self, path: str) -> None:
        assert (await thing().ask(path=path, json={"a": 1})).json() == {"said": {"a": 1}}

    @pytest.mark.parametrize("path", ["//thing", "/thing//", "///thing///", "//"])
    async def test_repeated_slashes_are_one(self, path: str) -> None:
        """A base URL with a slash at its end, joined with a path."""
        made = thing()
        assert (await made.ask(path=path, json={})).status == 200
        assert "//" not in made.calls[0].path

    async def test_repeated_slashes_in_a_name_are_kept(self) -> None:
        async def run(call: Call) -> JsonObject:
            return {"path": call.path}

        named = thing(run, paths={"/image/*": ("GET",), "/images": ("GET",)})
        assert (await named.ask("GET", "//image/a//b")).json() == {"path": "/image/a//b"}
        assert (await named.ask("GET", "/image//a")).json() == {"path": "/image//a"}
        assert (await named.ask("GET", "/images//")).json() == {"path": "/images/"}

    async def test_encoded_slash_is_not_a_separator(self) -> None:
        """The server decodes `/%2Fthing` to `//thing`."""
        made = thing()
        assert (await made.ask(path="//thing", raw_path="/%2Fthing", json={})).status == 404
        assert (await made.ask(path="//thing", raw_path="//thing", json={})).status == 200

    async def test_a_template_gives_its_parameters(self) -> None:
        async def run(call: Call) -> JsonObject:
            return {**call.path_parameters}

        made = thing(run, paths={"/accounts/{id}/keys/{key}": ("GET",), "/accounts": ("GET",)})
        answer = await made.ask("GET", "/accounts/a b/keys/k/1", raw_path="/accounts/a%20b/keys/k%2F1")
        assert answer.json() == {"id": "a b", "key": "k/1"}
        assert (await made.ask("GET", "/accounts")).json() == {}

    async def test_a_template_determines_the_methods(self) -> None:
        paths = {"/accounts/{id}": ("GET", "DELETE"), "/accounts/{id}/toggle": ("POST",), "/accounts/new": ("POST",)}
        made = thing(paths=paths)
        for path, allowed in (
            ("a1", "GET, DELETE, HEAD, OPTIONS"),
            ("a1/toggle", "POST, OPTIONS"),
            ("new", "POST, OPTIONS"),
        ):
            answer = await made.ask("PATCH", f"/accounts/{path}")
            assert (answer.status, answer.headers["allow"]) == (405, allowed)
            assert (await made.ask("OPTIONS", f"/accounts/{path}")).headers["allow"] == allowed
        assert (
            "/accounts/{id}/toggle supports only POST and OPTIONS."
            in (await made.ask("GET", "/accounts/a1/toggle")).error["message"]
        )

    async def test_also_is_answered_on_the_own_host(self) -> None:
        made = thing(also={"/chat": ("POST",), "/files/{id}": ("GET",)})
        assert (await made.ask(path="/chat", json={"a": 1})).json() == {"said": {"a": 1}}
        assert (await made.ask("GET", "/chat")).headers["allow"] == "POST, OPTIONS"
        assert (await made.ask(path="/", json={})).status == 200, "its one path of its own"

    async def test_a_lone_template_is_not_answered_at_the_root(self) -> None:
        """There is no value for its parameter."""
        made = thing(paths={"/accounts/{id}": ("POST",)})
        assert (await made.ask(path="/", json={})).status == 404

    async def test_the_log_has_the_template(self, capsys: pytest.CaptureFixture[str]) -> None:
        """An id in the path may be a capability, and every id would be a route of its own."""

        async def run(call: Call) -> JsonObject:
            return {}

        made = thing(run, paths={"/accounts/{id}/toggle": ("POST",)})
        await made.ask(path="/accounts/secret-id/toggle", json={})
        await made.ask("GET", "/accounts/secret-id/toggle")
        output = capsys.readouterr().out
        assert [record["httpRequest"]["requestUrl"] for record in records(output)] == ["/accounts/{id}/toggle"] * 2
        assert "secret-id" not in output

    async def test_repeated_slashes_lead_to_health_too(self) -> None:
        assert (await thing().ask("GET", "//health", headers={})).json() == {"status": "healthy"}

    async def test_a_function_of_several_paths_has_no_other_name_for_one(self) -> None:
        several = thing(paths={"/a": ("POST",), "/b/*": ("GET",)})
        assert (await several.ask(path="/", json={})).status == 404
        assert (await several.ask(path="/a", json={})).status == 200

    async def test_unknown_path_is_404_with_a_hint(self) -> None:
        answer = await thing().ask(path="/things", json={})
        assert answer.status == 404
        assert answer.error["code"] == "not_found"
        assert "/thing" in answer.error["message"]

    async def test_a_path_without_its_version_is_told(self) -> None:
        """A wildcard would match whatever was sent."""
        made = thing(paths={"/v1/models/{id}": ("GET",), "/v1/files": ("GET",), "/v1/*": ("GET",)})
        for path, pattern in (("/models/a", "/v1/models/{id}"), ("/files", "/v1/files")):
            message = (await made.ask("GET", path)).error["message"]
            assert message == f"Not found. This path is {pattern} here: add /v1 to the client's base URL."
        assert "/v1/*" in (await made.ask("GET", "/things")).error["message"]
        assert "base URL" not in (await made.ask("GET", "/things")).error["message"]

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "PATCH"])
    async def test_wrong_method_gets_allow(self, method: str) -> None:
        answer = await thing().ask(method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")

    async def test_head_works_where_get_does(self) -> None:
        async def run(call: Call) -> JsonObject:
            return {}

        readable = thing(run, paths={"/thing": ("GET",)})
        assert (await readable.ask("HEAD")).status == 200
        assert (await readable.ask("POST")).headers["allow"] == "GET, HEAD, OPTIONS"

    async def test_head_of_a_stream_generates_nothing(self) -> None:
        read = []

        async def events() -> Events:
            read.append("an event")
            yield {"text": "Hello"}

        async def run(call: Call) -> Response:
            return EventStream(events(), call.deadline_s)

        stream = thing(run, paths={"/thing": ("GET",)})
        head, whole = await stream.ask("HEAD"), await stream.ask("GET")
        assert (head.status, head.body, whole.body) == (200, b"", b'data: {"text":"Hello"}\n\n')
        assert (head.complete, head.headers["content-type"]) == (True, whole.headers["content-type"])
        assert len(read) == 1

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_health_answers_on_every_function_without_a_credential(self, method: str) -> None:
        answer = await thing().ask(method, "/health", headers={})
        assert answer.json() == {"status": "healthy"}

    async def test_health_returns_client_address_to_admin(self) -> None:
        """So that an operator sees which address rates and shares count, however the request came."""
        deployed = {"K_SERVICE": "thing", "LEDGER_URL": "memory://", "CLIENT_ADDRESS_FROM_END": "2"}
        made = thing(services=FakeServices(environment=deployed))
        forwarded = {"x-forwarded-for": "192.0.2.66, 198.51.100.2,203.0.113.10"}
        answer = await made.ask("GET", "/health", headers={**ADMIN, **forwarded})
        assert answer.json() == {"status": "healthy", "client_address": "198.51.100.2"}
        answer = await made.ask("GET", "/health", headers={"admin-api-key": "wrong", **forwarded})
        assert answer.json() == {"status": "healthy"}

    async def test_health_limits_guesses_of_the_admin_key(self) -> None:
        """The address in its answer would otherwise show whether a key is right, as often as anybody likes."""
        made = thing()
        statuses = [(await made.ask("GET", "/health", headers={"admin-api-key": "wrong"})).status for _ in range(11)]
        assert statuses == [200] * 10 + [429]

    async def test_health_is_only_read(self) -> None:
        assert (await thing().ask("POST", "/health")).headers["allow"] == "GET, HEAD, OPTIONS"


class TestCredentials:
    async def test_handler_gets_the_caller(self) -> None:
        made = thing()
        await made.ask(json={}, headers={**ADMIN, "x-caller-id": "team"})
        await made.ask(json=OWN, headers={})
        assert [(call.caller.kind, call.caller.id[:4]) for call in made.calls] == [
            ("admin", "name"),
            ("caller_key", "key:"),
        ]

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b'{"a": 1}', b'{"credentials": {}}'])
    async def test_unauthorized_names_no_other_body_error(self, body: bytes) -> None:
        made = thing()
        answer = await made.ask(content=body, headers={"content-type": "application/json"})
        assert (answer.status, answer.error["code"], made.calls) == (401, "unauthorized", [])

    async def test_wrong_content_type_is_reported_after_its_key(self) -> None:
        sent = {"content-type": "application/x-www-form-urlencoded"}
        answer = await thing().ask(content=orjson.dumps(OWN), headers=sent)
        assert answer.status == 415
        assert "Content-Type: application/json" in answer.error["message"]

    async def test_credentials_of_the_wrong_type_are_named(self) -> None:
        answer = await thing().ask(json={"credentials": "key"})
        assert (answer.status, answer.error["details"]) == (400, {"field": "credentials"})

    async def test_anonymous_needs_function_and_environment(self) -> None:
        allowing = FakeServices(environment={"ALLOW_ANONYMOUS": "thing"})
        made = thing(services=allowing, access="anonymous")
        assert (await made.ask(json={}, headers={})).status == 200
        assert made.calls[0].caller.id == "ip:192.0.2.1"
        assert (await thing(services=allowing).ask(json={}, headers={})).status == 401
        assert (await thing(access="anonymous").ask(json={}, headers={})).status == 401

    async def test_a_public_path_reads_no_credential(self) -> None:
        """And no body, although the function's other paths need a credential."""
        paths = {"/thing": ("POST",), "/page": ("GET", "POST")}
        made = thing(paths=paths)
        made.edge.manifest = replace(made.edge.manifest, public_paths=("/page",))
        made.run = shown  # type: ignore[method-assign]
        assert (await made.ask("GET", "/page", headers={})).status == 200
        assert (await made.ask("POST", "/page", headers={"admin-api-key": "wrong"}, content=b"{")).status == 200
        assert [call.caller.id for call in made.calls] == ["public", "public"]
        assert (await made.ask(json={}, headers={})).status == 401

    async def test_compatible_api_reads_bearer_and_user(self) -> None:
        compatible = thing(bearer_is_credential=True)
        bearer = {"authorization": f"Bearer {ADMIN_KEY}"}
        await compatible.ask(json={"user": "someone"}, headers=bearer)
        assert compatible.calls[0].caller.id == "name:someone"
        assert (await thing().ask(json={"user": "someone"}, headers=bearer)).status == 401

    async def test_unauthorized_reports_json_error_position(self) -> None:
        cut = b'{"a": 1, "credentials": {"gemini_api_key": "AQ.a-callers-own-key"}'
        answer = await thing().ask(content=cut, headers={})
        assert (answer.status, answer.error["code"]) == (401, "unauthorized")
        assert answer.error["message"].endswith(
            "The body is not valid JSON: unexpected end of data at line 1, column 67."
        )
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "callers-own-key" not in answer.error["message"]
        for without in (b"", b'{"a": 1}'):
            assert "The body is" not in (await thing().ask(content=without, headers={})).error["message"]

    async def test_forwarded_address_counts_only_when_deployed(self) -> None:
        environment = {"ALLOW_ANONYMOUS": "thing", "K_SERVICE": "thing"}
        deployed = thing(services=FakeServices(environment=environment), access="anonymous")
        await deployed.ask(json={}, headers={"x-forwarded-for": "203.0.113.1, 198.51.100.1"})
        assert deployed.calls[0].caller.id == "ip:198.51.100.1"


class TestCredentialInQuery:
    @pytest.fixture
    def deployed(self) -> Thing:
        environment = {"K_SERVICE": "thing", "GOOGLE_CLOUD_PROJECT": "p"}
        return thing(services=FakeServices(environment=environment))

    @pytest.mark.parametrize(
        "query",
        [
            "key=AQ.secret-in-url", "a=1&api_key=AQ.secret-in-url", "API-KEY=AQ.secret-in-url", "%6Bey=AQ.secret-in-url",
            "access_token=AQ.secret-in-url", "x-goog-api-key=AQ.secret-in-url", "Admin-API-Key=AQ.secret-in-url",
        ],
    )  # fmt: skip
    async def test_deployed_it_is_refused_with_the_right_headers(
        self, deployed: Thing, query: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answer = await deployed.ask(path=f"/thing?{query}", json={})
        assert (answer.status, answer.error["code"], deployed.calls) == (400, "invalid_request", [])
        assert "x-goog-api-key" in answer.error["message"]
        assert "Admin-API-Key" in answer.error["message"]
        assert "secret-in-url" not in answer.body.decode() + str(answer.headers) + capsys.readouterr().out

    @pytest.mark.parametrize("query", ["", "key=", "limit=3", "keys=1", "alt=sse", "pageToken=abc"])
    async def test_another_query_is_not(self, deployed: Thing, query: str) -> None:
        assert (await deployed.ask(path=f"/thing?{query}", json={})).status == 200

    async def test_a_preflight_is_answered(self, deployed: Thing) -> None:
        assert (await deployed.ask("OPTIONS", "/thing?key=AQ.secret-in-url", headers={})).status == 204

    async def test_it_is_refused_before_the_credential_is_looked_for(self, deployed: Thing) -> None:
        assert (await deployed.ask(path="/thing?key=AQ.secret-in-url", json={}, headers={})).status == 400

    async def test_locally_it_is_ignored(self) -> None:
        assert (await thing().ask(path="/thing?key=AQ.secret-in-url", json={})).status == 200


class TestJoinedHeaders:
    """`Headers.append` of the Fetch standard joins the values of one name with a comma."""

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json, application/json",
            "application/json,application/json",
            "application/json; charset=utf-8, application/json; charset=UTF-8",
            'application/json; charset=utf8, Application/JSON; charset="utf-8"',
            "application/json, application/json; charset=utf-8",
            "application/vnd.x+json, application/vnd.x+json",
            'application/json; profile="a,b"',
            ", application/json",
        ],
    )
    async def test_a_content_type_that_repeats_itself_is_one(self, content_type: str) -> None:
        headers = {**ADMIN, "content-type": content_type}
        assert (await thing().ask(content=b'{"a": 1}', headers=headers)).json() == {"said": {"a": 1}}

    @pytest.mark.parametrize(
        ("content_type", "told"),
        [
            ("application/json, text/plain", "several types or charsets (application/json, text/plain)"),
            ("application/json, application/vnd.x+json", "several types"),
            ("application/json; charset=utf-8, application/json; charset=latin-1", "(utf-8, latin-1)"),
            ("text/plain, text/plain", "sent as text/plain;"),
            ("application/json; charset=latin-1, application/json; charset=latin-1", "charset is latin-1"),
        ],
    )
    async def test_content_types_that_differ_are_unsupported(self, content_type: str, told: str) -> None:
        answer = await thing().ask(content=b"{}", headers={**ADMIN, "content-type": content_type})
        assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
        assert told in answer.error["message"]

    async def test_a_key_in_the_body_is_found_under_a_joined_type(self) -> None:
        headers = {"content-type": "application/json, application/json"}
        assert (await thing().ask(content=orjson.dumps(OWN), headers=headers)).status == 200

    async def test_a_content_encoding_that_repeats_itself_is_one(self) -> None:
        headers = {**ADMIN, "content-encoding": "identity, identity"}
        assert (await thing().ask(content=b"{}", headers=headers)).status == 200
        headers["content-encoding"] = "identity, gzip"
        assert (await thing().ask(content=b"{}", headers=headers)).status == 415

    @pytest.mark.parametrize(
        ("headers", "kind"),
        [
            ({"admin-api-key": f"{ADMIN_KEY}, {ADMIN_KEY}"}, "admin"),
            ({"authorization": "Bearer AQ.callers-own-key, Bearer AQ.callers-own-key"}, "caller_key"),
            ({"x-goog-api-key": "AQ.callers-own-key,AQ.callers-own-key"}, "caller_key"),
        ],
    )
    async def test_a_credential_that_repeats_itself_is_one(self, headers: dict[str, str], kind: str) -> None:
        made = thing()
        assert (await made.ask(json={}, headers=headers)).status == 200
        assert made.calls[0].caller.kind == kind

    async def test_two_credentials_are_not(self) -> None:
        assert (await thing().ask(json={}, headers={"admin-api-key": f"{ADMIN_KEY}, another-key"})).status == 401

    async def test_a_patience_that_repeats_itself_is_one(self) -> None:
        made = thing()
        assert (await made.ask(json={}, headers={**ADMIN, "x-request-timeout": "5, 5"})).status == 200
        assert made.calls[0].patience.timeout_s == 5


class TestBody:
    @pytest.mark.parametrize(
        "media_type",
        [
            "application/json",
            "application/json; charset=UTF-8",
            'application/json; charset="utf-8"; version=1',
            'application/json; profile="; charset=latin-1"',
            "application/vnd.x+json",
            None,
        ],
    )
    async def test_json_is_read(self, media_type: str | None) -> None:
        headers = {**ADMIN, **({"content-type": media_type} if media_type else {})}
        assert (await thing().ask(content=b'{"a": "\xc3\xa9"}', headers=headers)).json() == {"said": {"a": "é"}}

    @pytest.mark.parametrize("encoding", ["identity", "Identity ", ""])
    async def test_identity_content_encoding_is_accepted(self, encoding: str) -> None:
        assert (await thing().ask(content=b"{}", headers={**ADMIN, "content-encoding": encoding})).status == 200

    async def test_it_may_come_in_parts_and_with_a_byte_order_mark(self) -> None:
        assert (await thing().ask(content=[b"\xef\xbb", b"\xbf{", b"}"])).json() == {"said": {}}

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            (b"", "empty"),
            (b"  ", "empty"),
            (b'{"a": \xff}', "not valid UTF-8 at byte 6"),
            (b'{"a":\n nul}', "line 2"),
            (b'{"a": 1,}', "not valid JSON"),
            (b'{"a": NaN}', "not valid JSON"),
            (b"[" * 100_000, "not valid JSON"),
            (b"[1]", "a list"),
            (b"null", "null"),
            (b"3", "a number"),
            (b'"x"', "a string"),
            (b"true", "a boolean"),
        ],
    )
    async def test_body_must_be_a_json_object(self, body: bytes, told: str) -> None:
        answer = await thing().ask(content=body, headers={**ADMIN, "content-type": "application/json"})
        assert (answer.status, answer.error["code"]) == (400, "invalid_request")
        assert told in answer.error["message"]

    @pytest.mark.parametrize(
        "headers",
        [
            {"content-type": "multipart/form-data; boundary=x"},
            {"content-type": "text/plain"},
            {"content-type": "application/json; charset=latin-1"},
            {"content-type": "application/json; version=1; charset=utf-16"},
            {"content-type": "application/json", "content-encoding": "gzip"},
        ],
    )
    async def test_what_cannot_be_read_as_json_is_unsupported(self, headers: dict[str, str]) -> None:
        assert (await thing().ask(content=b"{}", headers={**ADMIN, **headers})).status == 415

    async def test_unread_upgrade_body_is_reported_first(
        self,
    ) -> None:
        """Before a missing credential."""
        headers = {"content-type": "application/json", "connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}
        answer = await thing().ask(content=b"", headers={**headers, "content-length": "15"})
        assert (answer.status, answer.error["code"]) == (400, "invalid_request")
        assert "HTTP/1.1 without the header Upgrade" in answer.error["message"]
        assert (await thing().ask(content=b"{}", headers={**ADMIN, **headers})).status == 200

    async def test_too_large_a_body_is_refused_before_it_is_read(self) -> None:
        headers = {**ADMIN, "content-type": "application/json", "content-length": str(32 * 1024 * 1024 + 1)}
        answer = await thing().ask(content=[b"{", b"}"], headers=headers)
        assert (answer.status, answer.error["details"]) == (413, {"limit_bytes": 32 * 1024 * 1024})
        assert "32 MB" in answer.error["message"]

    async def test_undeclared_body_is_rejected_once_too_large(self) -> None:
        megabyte = b" " * 1024 * 1024
        parts = [*[megabyte] * 32, b"{}", *[megabyte] * 8]
        answer = await thing().ask(content=parts)
        assert answer.status == 413

    async def test_missing_body_times_out(self) -> None:
        made = thing(services=FakeServices(environment={"REQUEST_TIMEOUT_SECONDS": "0.1"}))
        answer = await made.ask(content=[])
        assert answer.status == 400
        assert "0.1 s" in answer.error["message"]


class TestDeadlineAndPriority:
    async def ask_about(self, headers: dict[str, str]) -> tuple[Answer, Thing]:
        async def run(call: Call) -> JsonObject:
            return {"patience_s": call.deadline_s - call.received_s, "priority": call.priority}

        made = thing(run)
        return await made.ask(json={}, headers={**ADMIN, **headers}), made

    async def test_default_call_is_interactive_with_server_timeout(self) -> None:
        answer, _ = await self.ask_about({})
        assert answer.json() == {"patience_s": pytest.approx(120), "priority": "interactive"}

    async def test_the_caller_may_have_less_patience_and_less_urgency(self) -> None:
        answer, _ = await self.ask_about({"x-request-timeout": "2.5", "x-priority": "batch"})
        assert answer.json() == {"patience_s": pytest.approx(2.5), "priority": "batch"}

    @pytest.mark.parametrize("value", ["0", "-1", "121", "soon", "nan", "inf", ""])
    async def test_a_timeout_that_cannot_be_kept_is_refused(self, value: str) -> None:
        answer, _ = await self.ask_about({"x-request-timeout": value})
        assert (answer.status, answer.error["details"]) == (400, {"field": "x-request-timeout"})
        assert "120" in answer.error["message"]

    async def test_a_priority_that_is_none_is_refused(self) -> None:
        answer, _ = await self.ask_about({"x-priority": "urgent"})
        assert (answer.status, answer.error["details"]) == (400, {"field": "x-priority"})


class TestPatience:
    """How long a generation may take, and how long it may wait for its permit."""

    async def generation(self, headers: dict[str, str], *, stream: bool = False, **environment: str) -> Any:
        async def run(call: Call) -> Response | JsonObject:
            if stream:
                return call.stream("some-model", {}, partial(chat_events, request_id=call.request_id))
            await call.generate("some-model", {})
            return {}

        gateway = FakeGateway([native("Hello")] if stream else "Hello")
        made = thing(run, services=FakeServices(gateway, environment))
        began_s = elapsed_s()
        assert (await made.ask(json={}, headers={**ADMIN, **headers})).status == 200
        (asked,) = gateway.asked
        waits_s = None if asked.patient_until_s is None else asked.patient_until_s - began_s
        return asked.deadline_s - began_s, waits_s

    async def test_without_one_the_servers_timeouts_hold(self) -> None:
        assert await self.generation({}) == (pytest.approx(120, abs=5), None)

    @pytest.mark.parametrize("name", ["x-request-timeout", "x-server-timeout", "x-stainless-read-timeout"])
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_stated_one_replaces_the_queues_timeout(self, name: str, stream: bool) -> None:
        _, waits_s = await self.generation({name: "60"}, stream=stream)
        assert waits_s == pytest.approx(60, abs=5)

    async def test_an_operators_queue_timeout_still_holds(self) -> None:
        assert (await self.generation({"x-request-timeout": "60"}, QUEUE_TIMEOUT_SECONDS="20"))[1] is None

    async def test_an_answers_deadline_is_the_patience(self) -> None:
        for name in ("x-request-timeout", "x-server-timeout", "x-stainless-timeout"):
            assert (await self.generation({name: "60"}))[0] == pytest.approx(60, abs=5)

    async def test_a_stream_that_is_not_silent_may_take_longer(self) -> None:
        """openai's timeout is of the headers or of the next byte, google-genai's of the whole answer."""
        assert (await self.generation({"x-stainless-timeout": "60"}, stream=True))[0] == pytest.approx(120, abs=5)
        assert (await self.generation({"x-server-timeout": "60"}, stream=True))[0] == pytest.approx(60, abs=5)

    async def test_a_stream_is_never_silent_for_longer_than_half_of_it(self) -> None:
        made = thing(services=FakeServices(FakeGateway([])))
        seen: list[float] = []

        async def run(call: Call) -> JsonObject:
            stream = call.stream("some-model", {}, partial(chat_events, request_id=call.request_id))
            seen.append(stream.silence_s)
            return {}

        made.run = run  # type: ignore[method-assign]
        for timeout in ("600", "20", "0.5"):
            await made.ask(json={}, headers={**ADMIN, "x-stainless-read-timeout": timeout})
        assert seen == [15, 10, 1]


class TestErrors:
    @pytest.mark.parametrize("error", [DailyQuotaExhausted("Spent."), NoServerKey("None.")])
    async def test_where_no_retry_can_help_the_headers_say_so(self, error: Exception) -> None:
        assert (await failing(error).ask()).headers["x-should-retry"] == "false"

    @pytest.mark.parametrize("error", [QueueTimeout("Later."), Unavailable("Later."), UpstreamFailed("x")])
    async def test_where_a_retry_may_help_they_do_not(self, error: Exception) -> None:
        assert "x-should-retry" not in (await failing(error).ask()).headers

    async def test_they_have_our_own_format(self) -> None:
        answer = await failing(BadRequest("Wrong.", field="a.b")).ask(headers={**ADMIN, "x-request-id": "id-1"})
        assert answer.json() == {
            "error": {
                "code": "invalid_request",
                "message": "Wrong.",
                "status": 400,
                "request_id": "id-1",
                "details": {"field": "a.b"},
            }
        }
        assert answer.headers["content-type"] == "application/json"

    @pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.01, "2"), (59.5, "60")])
    async def test_retry_after_is_whole_seconds_and_never_too_early(self, seconds: float, header: str) -> None:
        answer = await failing(QueueTimeout("Later.", retry_after_s=seconds)).ask()
        assert (answer.status, answer.headers["retry-after"]) == (429, header)

    async def test_an_error_keeps_the_headers_it_brings(self) -> None:
        answer = await failing(Unavailable("No.", headers={"x-ratelimit-limit-requests": "5"})).ask()
        assert answer.headers["x-ratelimit-limit-requests"] == "5"

    async def test_a_defect_is_logged_and_hides_behind_the_requests_id(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answer = await failing(ValueError("a prompt, or a key")).ask(headers={**ADMIN, "x-request-id": "id-1"})
        assert (answer.status, answer.error["code"], answer.error["request_id"]) == (500, "internal_error", "id-1")
        output = capsys.readouterr().out
        assert "a prompt, or a key" not in output + answer.body.decode()
        failure, request = records(output)
        assert (failure["severity"], labels(failure)["request_id"]) == ("ERROR", "id-1")
        assert "ValueError" in failure["stack"]
        assert "test_endpoint.py" in failure["stack"]
        assert (labels(request)["outcome"], request["httpRequest"]["status"]) == ("internal_error", 500)

    async def test_an_api_may_have_its_own_format(self) -> None:
        made = thing(api=ApiFormat(error_body=lambda error, request_id: {"oops": error.code}))
        assert (await made.ask(json={}, headers={})).json() == {"oops": "unauthorized"}

    async def test_an_api_may_have_its_own_status_and_headers(self, capsys: pytest.CaptureFixture[str]) -> None:
        api = ApiFormat(
            public_error=lambda error: NotFound(error.message),
            error_headers=lambda error: {"x-of-error": error.code},
            headers=lambda timeline, took_s: [(b"x-took", b"%d" % took_s)],
        )
        answer = await thing(api=api).ask(json={}, headers={})
        assert (answer.status, answer.headers["x-of-error"], answer.headers["x-took"]) == (404, "not_found", "0")
        (request,) = records(capsys.readouterr().out)
        assert (labels(request)["outcome"], request["httpRequest"]["status"]) == ("not_found", 404)

    async def test_a_wrong_environment_is_the_operators_to_read(self, capsys: pytest.CaptureFixture[str]) -> None:
        def services() -> FakeServices:
            raise SettingsError("GEMINI_RPM is 'x'; it must be a number.")

        edge = EndpointApp(Thing().run, manifest(), services=services)
        answer = await ask(edge.answer, path="/thing", headers={"x-request-id": "id-1"})
        assert (answer.status, answer.error["code"], answer.headers["x-request-id"]) == (503, "unavailable", "id-1")
        assert "GEMINI_RPM" not in answer.error["message"]
        assert answer.headers["server-timing"].startswith("total;dur=")
        problem, request = records(capsys.readouterr().out)
        assert problem == {"severity": "CRITICAL", "message": "GEMINI_RPM is 'x'; it must be a number."}
        assert (request["severity"], labels(request)["request_id"]) == ("ERROR", "id-1")

    async def test_services_that_cannot_be_made_are_a_defect(self, capsys: pytest.CaptureFixture[str]) -> None:
        def services() -> FakeServices:
            raise OSError("disk")

        answer = await ask(EndpointApp(Thing().run, manifest(), services=services).answer, path="/thing")
        assert (answer.status, answer.error["code"]) == (500, "internal_error")
        assert "OSError" in capsys.readouterr().out


class TestHeaders:
    @pytest.mark.parametrize("given", ["abc", "a1-B2._:/+=@", "x" * 128])
    async def test_a_sane_request_id_is_kept(self, given: str) -> None:
        assert (await thing().ask(json={}, headers={**ADMIN, "x-request-id": given})).headers["x-request-id"] == given

    @pytest.mark.parametrize("given", [None, "", "a b", "a\r\nb", "x" * 129, "é"])
    async def test_else_a_new_one_is_made(self, given: str | None) -> None:
        headers = {**ADMIN, **({} if given is None else {"x-request-id": given})}
        made = [(await thing().ask(json={}, headers=headers)).headers["x-request-id"] for _ in range(2)]
        assert made[0] != made[1]
        assert all(one.startswith("req_") for one in made)

    async def test_generation_has_rate_and_timing_headers(self) -> None:
        async def run(call: Call) -> JsonObject:
            await call.generate("some-model", {})
            return {}

        answer = await thing(run).ask(json={})
        assert answer.headers["x-ratelimit-limit-requests"] == "300"
        assert answer.headers["x-model-used"] == "some-model"
        assert answer.headers["server-timing"].startswith("queue;dur=250.0, upstream;dur=500.0, total;dur=")

    async def test_json_is_neither_stored_nor_sniffed(self) -> None:
        answers = [
            await thing().ask(json={}),
            await thing().ask(json={}, headers={}),
            await thing().ask(path="/nope"),
            await thing().ask("GET", "/health"),
        ]
        for answer in answers:
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"

    async def test_an_answers_own_cache_control_is_kept(self) -> None:
        async def run(call: Call) -> Response:
            return JsonResponse({}, headers={"cache-control": "max-age=5"})

        answer = await thing(run).ask(json={})
        assert (answer.headers["cache-control"], answer.headers["content-type"]) == ("max-age=5", "application/json")

    async def test_a_foreign_page_is_rejected_before_the_handler(self) -> None:
        made = thing(services=FakeServices(environment={"ALLOW_ANONYMOUS": "thing"}), access="anonymous")
        evil = {"origin": "https://evil.example"}
        answer = await made.ask(json={}, headers=evil)
        assert (answer.status, answer.error["code"], made.calls) == (403, "forbidden", [])
        assert (await made.ask(json={}, headers={**ADMIN, **evil})).status == 200
        assert (await made.ask(json={}, headers={"x-goog-api-key": "AQ.callers-own-key", **evil})).status == 200

    async def test_anybody_may_read_the_answers_by_default(self) -> None:
        good, bad = await thing().ask(json={}), await thing().ask(json={}, headers={})
        for answer in (good, bad, await thing().ask(path="/nope"), await thing().ask("GET")):
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "x-request-id" in answer.headers["access-control-expose-headers"]
            assert "Retry-After" in answer.headers["access-control-expose-headers"]

    async def test_a_list_of_origins_is_kept_to(self) -> None:
        made = thing(services=FakeServices(environment={"CORS_ORIGIN": "https://a.example,https://b.example"}))
        seen = {}
        for origin in ("https://b.example", "https://c.example"):
            answer = await made.ask(json={}, headers={**ADMIN, "origin": origin})
            seen[origin] = answer.headers.get("access-control-allow-origin")
            assert answer.headers["vary"] == "Origin"
        assert seen == {"https://b.example": "https://b.example", "https://c.example": None}

    async def test_a_preflight_needs_no_credential(self) -> None:
        made = thing()
        answer = await made.ask(
            "OPTIONS", headers={"origin": "https://a.example", "access-control-request-method": "POST"}
        )
        assert (answer.status, answer.body, made.calls) == (204, b"", [])
        assert answer.headers["access-control-allow-methods"] == "POST, OPTIONS"
        allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
        for name in (
            "content-type",
            "authorization",
            "admin-api-key",
            "x-goog-api-key",
            "x-session-id",
            "last-event-id",
        ):
            assert name in allowed

    async def preflight(self, asked: str | None, **environment: str) -> Answer:
        headers = {"origin": "https://a.example", "access-control-request-method": "POST"}
        if asked is not None:
            headers["access-control-request-headers"] = asked
        return await thing(services=FakeServices(environment=environment)).ask("OPTIONS", headers=headers)

    async def test_a_preflight_allows_the_headers_that_it_asks_for(self) -> None:
        """A page's tracing adds headers of its own."""
        answer = await self.preflight("admin-api-key,baggage,content-type, sentry-trace ,traceparent,BAGGAGE2,baggage")
        assert answer.headers["access-control-allow-headers"] == (
            "admin-api-key, baggage, content-type, sentry-trace, traceparent, BAGGAGE2"
        )

    @pytest.mark.parametrize("asked", [None, "", " , ", "no token", "a:b\x7f", "x" * 129])
    async def test_without_a_name_it_allows_what_the_gateway_reads(self, asked: str | None) -> None:
        assert "Admin-API-Key" in (await self.preflight(asked)).headers["access-control-allow-headers"]

    async def test_a_preflight_allows_only_names_of_headers(self) -> None:
        answer = await self.preflight('good, b@d, "quoted", a/b, also-good')
        assert answer.headers["access-control-allow-headers"] == "good, also-good"

    async def test_a_preflight_allows_64_headers_at_most(self) -> None:
        allowed = (await self.preflight(",".join(f"h{n}" for n in range(10_000)))).headers[
            "access-control-allow-headers"
        ]
        assert allowed.split(", ") == [f"h{n}" for n in range(64)]

    async def test_a_preflight_varies_with_what_it_is_asked_for(self) -> None:
        made = thing(services=FakeServices(environment={"CORS_ORIGIN": "https://a.example"}))
        sent: list[Any] = []
        await made.ask("OPTIONS", headers={"origin": "https://a.example"}, seen=sent.append)
        vary = [value for name, value in sent[0]["headers"] if name == b"vary"]
        assert vary == [b"Access-Control-Request-Headers", b"Origin"]

    async def test_a_public_page_is_not_let_into_a_private_network(self) -> None:
        headers = {"origin": "https://a.example", "access-control-request-private-network": "true"}
        assert "access-control-allow-private-network" not in (await thing().ask("OPTIONS", headers=headers)).headers

    async def test_only_a_named_origin_may_send_its_credentials(self) -> None:
        named = await self.preflight(None, CORS_ORIGIN="https://a.example")
        assert named.headers["access-control-allow-credentials"] == "true"
        for origins in ("*", "https://b.example"):
            other = await self.preflight(None, CORS_ORIGIN=origins)
            assert "access-control-allow-credentials" not in other.headers

    async def test_what_a_page_needs_is_exposed(self) -> None:
        exposed = (await thing().ask(json={})).headers["access-control-expose-headers"].split(", ")
        assert {
            "x-request-id", "Retry-After", "retry-after-ms", "openai-processing-ms", "x-should-retry",
            "x-schema-unchecked", "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", "x-model-used", "server-timing",
            "x-thought-signatures",
        } <= set(exposed)  # fmt: skip

    async def test_the_first_of_two_headers_with_one_name_counts(self) -> None:
        from starlette.requests import Request

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"a", b"1"), (b"a", b"2")]}
        assert Call(Request(scope), FakeServices(), 0.0).headers["a"] == "1"


class TestRecord:
    async def test_the_pattern_is_logged_and_not_the_path(self, capsys: pytest.CaptureFixture[str]) -> None:
        async def run(call: Call) -> JsonObject:
            return {}

        await thing(run, paths={"/image/*": ("GET",)}).ask("GET", "/image/capability")
        await thing().ask(path="/unknown-capability", json={})
        output = capsys.readouterr().out
        assert records(output)[0]["httpRequest"]["requestUrl"] == "/image/*"
        assert "capability" not in output

    @pytest.mark.parametrize(
        ("error", "severity"),
        [(BadRequest("x"), "INFO"), (QueueTimeout("x"), "WARNING"), (UpstreamFailed("x"), "ERROR")],
    )
    async def test_its_severity_is_the_outcomes(
        self, error: Exception, severity: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await failing(error).ask()
        assert records(capsys.readouterr().out)[0]["severity"] == severity

    async def test_the_level_leaves_out_what_is_below_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        made = thing(services=FakeServices(environment={"LOG_LEVEL": "error"}))
        await made.ask(json={})
        assert capsys.readouterr().out == ""

    async def test_closed_log_output_fails_no_request(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken:
            def write(self, _: str) -> int:
                raise BrokenPipeError

        monkeypatch.setattr(sys, "stdout", Broken())
        assert (await thing().ask(json={})).status == 200


class TestDisconnect:
    async def test_the_work_is_cancelled_and_logged_when_the_caller_goes(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async def run(call: Call) -> JsonObject:
            await call.generate("some-model", {})
            return {}

        gateway = FakeGateway(hold=asyncio.Event())
        gone = asyncio.Event()
        asking = asyncio.create_task(thing(run, services=FakeServices(gateway)).ask(json={}, hang_up=gone))
        await gateway.began.wait()
        gone.set()
        await asyncio.wait_for(asking, 5)
        assert gateway.cancelled
        (record,) = records(capsys.readouterr().out)
        assert (record["httpRequest"]["status"], labels(record)["outcome"]) == (499, "caller_gone")

    async def test_a_caller_that_goes_while_sending_is_not_answered_either(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        gone = asyncio.Event()
        gone.set()
        made = thing()
        await made.ask(content=[], hang_up=gone)
        assert made.calls == []
        assert labels(records(capsys.readouterr().out)[0])["outcome"] == "caller_gone"

    async def test_shutdown_is_not_logged_as_a_disconnect(self) -> None:
        async def run(call: Call) -> JsonObject:
            await call.generate("some-model", {})
            return {}

        gateway = FakeGateway(hold=asyncio.Event())
        asking = asyncio.create_task(thing(run, services=FakeServices(gateway)).ask(json={}))
        await gateway.began.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert gateway.cancelled

    async def test_nothing_stays_behind_after_an_answer(self) -> None:
        before = asyncio.all_tasks()
        await thing().ask(json={})
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before


def test_the_decorator_makes_what_functions_framework_insists_on() -> None:
    import types

    from functions_framework import _function_registry

    from functions.chat.main import chat

    assert isinstance(chat, types.FunctionType)
    assert chat.__name__ == "chat"
    assert "chat" in _function_registry.ASGI_FUNCTIONS
