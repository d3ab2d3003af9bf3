"""Sessions over HTTP: whose they are, how they are named, what is stored and shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from functions.chat.main import chat
from functions.sessions.main import sessions
from shared.errors import NotFound
from shared.files.files import Files
from shared.media.port import FILES
from shared.media.url import open_objects
from shared.sessions.session import FileRef, files_owner
from shared.sessions.store import Sessions
from tests.support.edge import ADMIN, Answer, FakeGateway, FakeServices, ask
from tests.support.stored_sessions import end

OWN_KEY = {"x-goog-api-key": "AQ.a-key-of-a-caller"}
OPEN = {"ALLOW_ANONYMOUS": "sessions"}
HERE, THERE = ("127.0.0.1", 5000), ("192.0.2.1", 5000)


class Server:
    """One process's functions, with one store."""

    def __init__(self, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.services = FakeServices(FakeGateway("Bonjour"), environment)
        monkeypatch.setattr("shared.bootstrap.services", lambda: self.services)
        self.sessions = Sessions(self.services.store, ttl_ms=86_400_000)

    async def send(self, method: str, path: str, **rest: Any) -> Answer:
        """Over a loopback address, unless `client` says otherwise."""
        return await ask(sessions, method, path, **{"headers": ADMIN, "client": HERE, **rest})

    async def say(self, text: str = "Hello", **rest: Any) -> str:
        """The id of the session that the message went into."""
        body = {"message": text} | rest.pop("body", {})
        answer = await self.send("POST", "/chat", json=body, **rest)
        assert answer.status == 200, answer.body
        return str(answer.json()["session_id"])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server({}, monkeypatch)


@pytest.fixture
def open_server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(OPEN, monkeypatch)


def cookie(sid: str, **more: str) -> dict[str, str]:
    return {"cookie": f"session_id={sid}", **more}


# -- what is stored and shown ------------------------------------------------------------------------------------------


async def test_message_is_stored_and_shown(server: Server) -> None:
    answer = await server.send("POST", "/chat", json={"message": "Hello\nthere"})
    sid, turn = answer.json()["session_id"], answer.json()["turn"]
    assert answer.json() == {"success": True, "session_id": sid, "turn": turn}
    assert answer.headers["x-session-id"] == sid
    assert "no-store" in answer.headers["cache-control"]
    shown = (await server.send("GET", f"/sessions/{sid}")).json()
    (one,) = shown.pop("turns")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", one.pop("created"))
    assert one == {
        "turn": turn,
        "number": 0,
        "message": "Hello\nthere",
        "files": [],
        "state": "pending",
        "answer": None,
    }
    assert (shown["title"], shown["messages"], shown["pending"], shown["has_more"]) == ("Hello", 1, turn, False)
    await end(server.sessions, turn, "Bonjour")
    (one,) = (await server.send("GET", f"/sessions/{sid}")).json()["turns"]
    assert (one["state"], one["answer"]) == ("done", "Bonjour")
    assert one["usage"] == dict.fromkeys(("prompt_tokens", "output_tokens", "thinking_tokens", "total_tokens"))


async def test_a_turn_whose_entry_expired_is_interrupted(server: Server) -> None:
    sid = await server.say()
    turn = (await server.send("GET", f"/sessions/{sid}")).json()["pending"]
    await server.services.store.transact([f"turns/{turn}"], lambda values, _: _deleted(values))
    (one,) = (await server.send("GET", f"/sessions/{sid}")).json()["turns"]
    assert one["state"] == "interrupted"


def _deleted(values: Any) -> Any:
    from shared.stores.port import Change

    return Change(None, dict.fromkeys(values))


async def test_history_is_read_in_parts(server: Server) -> None:
    for number in range(5):
        sid = await server.say(str(number))
    last = (await server.send("GET", f"/sessions/{sid}?limit=2")).json()
    assert ([one["message"] for one in last["turns"]], last["has_more"]) == (["3", "4"], True)
    rest = (await server.send("GET", f"/sessions/{sid}?before=3")).json()
    assert ([one["message"] for one in rest["turns"]], rest["has_more"]) == (["0", "1", "2"], False)


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "before=-1", "before=" + "9" * 20])
async def test_invalid_query_names_its_parameter(server: Server, query: str) -> None:
    sid = await server.say()
    answer = await server.send("GET", f"/sessions/{sid}?{query}")
    assert (answer.status, answer.error["details"]["field"]) == (400, query.partition("=")[0])


async def test_the_list_is_the_callers_newest_first(server: Server) -> None:
    first = await server.say("first", body={"session_id": "new"})
    await server.say("someone else's", headers={**ADMIN, "x-caller-id": "ben"})
    default = await server.say("by default")
    listed = (await server.send("GET", "/sessions")).json()["sessions"]
    assert [one["session_id"] for one in listed] == [default, first]
    assert [one["title"] for one in (await server.send("GET", "/sessions?limit=1")).json()["sessions"]] == [
        "by default"
    ]
    assert (await server.send("GET", "/sessions?limit=101")).status == 400


async def test_deletion_takes_the_files_along(server: Server, tmp_path: Path) -> None:
    """The stored files, and Gemini's copies of them. The caller's next message begins its default session anew."""
    files = server.services.files = Files(server.services.store, open_objects(f"file://{tmp_path}", FILES))
    sid = await server.say()
    stored = await files.put(
        files_owner(sid), b"abc", filename="a.txt", purpose="user_data", mime_type="text/plain", ttl_s=60
    )
    session = await server.sessions.read(await _owner(server, sid), sid)
    await server.sessions.add_upload(session, FileRef(stored.id, "a.txt", "text/plain", 3))
    await server.sessions.add_upload(session, FileRef("file-" + "0" * 44, "expired.txt", "text/plain", 3))
    answer = await server.send("DELETE", f"/sessions/{sid}")
    assert (answer.status, answer.body) == (204, b"")
    with pytest.raises(NotFound):
        await files.describe(files_owner(sid), stored.id)
    assert len(server.services.gateway.deleted) == 1
    assert (await server.send("GET", f"/sessions/{sid}")).status == 404
    assert (await server.send("DELETE", f"/sessions/{sid}")).status == 404
    assert await server.say("again") == sid


async def _owner(server: Server, sid: str) -> str:
    (key,) = [key for key in await server.services.store.list("sessions/") if key.endswith(sid)]
    return key.removeprefix("sessions/").partition(".")[0]


# -- which session -----------------------------------------------------------------------------------------------------


async def test_a_credential_has_one_default_session(server: Server) -> None:
    first = await server.say()
    assert await server.say() == first
    assert await server.say(headers={**ADMIN, "x-caller-id": "ben"}) != first
    assert await server.say(headers=OWN_KEY) != first


async def test_session_is_named_by_field_header_or_cookie(server: Server) -> None:
    sid = await server.say(body={"session_id": "new"})
    for rest in (
        {"body": {"session_id": sid}},
        {"headers": {**ADMIN, "x-session-id": sid}},
        {"headers": {**ADMIN, "x-session-id": sid}, "body": {"session_id": sid}},
        {"headers": cookie(sid, **ADMIN)},
    ):
        assert await server.say(**rest) == sid
    assert await server.say() != sid
    opened = await server.say(headers={**cookie(sid, **ADMIN), "x-session-id": "new"})
    assert opened not in (sid, await server.say())


async def test_two_ids_in_one_request_are_rejected(server: Server) -> None:
    answer = await server.send(
        "POST", "/chat", json={"message": "x", "session_id": "1" * 44}, headers={**ADMIN, "x-session-id": "2" * 44}
    )
    assert (answer.status, answer.error["details"]["field"]) == (400, "session_id")


async def test_other_callers_session_is_like_an_unknown_one(server: Server) -> None:
    sid = await server.say()
    answers = []
    for headers, name in ((OWN_KEY, sid), ({**ADMIN, "x-caller-id": "ben"}, sid), (ADMIN, "0" * 44), (ADMIN, "x")):
        for method, path, rest in (
            ("GET", f"/sessions/{name}", {}),
            ("DELETE", f"/sessions/{name}", {}),
            ("POST", "/chat", {"json": {"message": "mine", "session_id": name}}),
        ):
            answer = await server.send(method, path, headers=headers, **rest)
            answers.append((answer.status, answer.error["message"]))
    assert len(set(answers)) == 1
    assert answers[0][0] == 404
    assert (await server.send("GET", f"/sessions/{sid}")).json()["messages"] == 1


async def test_cookie_of_an_expired_session_is_no_error(server: Server) -> None:
    assert await server.say(headers=cookie("0" * 44, **ADMIN)) == await server.say()


@pytest.mark.parametrize(
    ("environment", "headers", "counts"),
    [
        ({}, {"origin": "http://gateway.test"}, True),
        ({}, {"origin": "http://page.test"}, False),
        ({}, {"origin": "null"}, False),
        ({"PUBLIC_BASE_URL": "https://public.test"}, {"origin": "https://public.test"}, True),
        ({}, {"sec-fetch-site": "cross-site"}, False),
        ({}, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, False),
        ({}, {"sec-fetch-site": "same-site"}, False),
        ({}, {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, True),
        ({"CORS_ORIGIN": "http://page.test"}, {"origin": "http://page.test"}, True),
        ({"CORS_ORIGIN": "http://page.test"}, {"origin": "http://other.test"}, False),
    ],
)
async def test_cookie_counts_for_trusted_pages_only(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], headers: dict[str, str], counts: bool
) -> None:
    """A page of another origin must not act in the session of its visitor."""
    server = Server(environment, monkeypatch)
    sid = await server.say(body={"session_id": "new"})
    sent = cookie(sid, host="gateway.test", **ADMIN, **headers)
    assert (await server.say(headers=sent) == sid) is counts


@pytest.mark.parametrize(
    ("headers", "is_set"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, True),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, False),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, False),
        ({"origin": "http://page.test", "sec-fetch-mode": "navigate"}, False),
        ({"origin": "http://gateway.test"}, True),
    ],
)
async def test_a_link_does_not_choose_the_session(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], is_set: bool
) -> None:
    """The visitor's next messages would go into a session that the link's author reads."""
    server = Server(
        {**OPEN, "K_SERVICE": "sessions", "GOOGLE_CLOUD_PROJECT": "p", "LEDGER_URL": "memory://"}, monkeypatch
    )
    sid = await server.say(headers={}, client=THERE)
    sent = {"host": "gateway.test", **headers}
    for method, path, rest in (
        ("GET", f"/sessions/{sid}", {}),
        ("POST", "/chat", {"json": {"message": "Hello", "session_id": sid}}),
    ):
        answer = await server.send(method, path, headers=sent, client=THERE, **rest)
        assert answer.status == 200
        assert ("set-cookie" in answer.headers) is is_set


@pytest.mark.parametrize(
    ("environment", "attributes"),
    [
        ({}, "HttpOnly; SameSite=Lax"),
        (
            {"K_SERVICE": "sessions", "GOOGLE_CLOUD_PROJECT": "p", "LEDGER_URL": "memory://"},
            "HttpOnly; SameSite=Lax; Secure",
        ),
        ({"CORS_ORIGIN": "http://page.test"}, "HttpOnly; SameSite=None; Secure; Partitioned"),
        ({"CORS_ORIGIN": "*", "SESSION_TTL_HOURS": "2"}, "HttpOnly; SameSite=Lax"),
    ],
)
async def test_cookie_attributes(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], attributes: str) -> None:
    answer = await Server(environment, monkeypatch).send("POST", "/chat", json={"message": "Hello"})
    hours = int(environment.get("SESSION_TTL_HOURS", "24"))
    sid = answer.json()["session_id"]
    assert answer.headers["set-cookie"] == f"session_id={sid}; Path=/; Max-Age={hours * 3600}; {attributes}"


async def test_pages_of_named_origins_may_send_and_read_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server({"CORS_ORIGIN": "http://page.test"}, monkeypatch)
    headers = {**ADMIN, "origin": "http://page.test"}
    answer = await server.send("POST", "/chat", json={"message": "Hello"}, headers=headers)
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "x-session-id" in answer.headers["access-control-expose-headers"]
    everybody = await Server({}, monkeypatch).send("POST", "/chat", json={"message": "Hello"}, headers=headers)
    assert "access-control-allow-credentials" not in everybody.headers


# -- without a credential ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [chat, sessions])
async def test_only_a_message_does_without_a_credential(open_server: Server, function: Any) -> None:
    """On both functions that answer POST /chat."""
    for body, status in (
        ({"message": "Hello"}, 200),
        ({"prompt": "Hello"}, 401),
        ({"prompt": "Hello", "message": None}, 401),
        ({"prompt": "Hello", "message": "Hello"}, 400),
        ({}, 401),
    ):
        answer = await ask(function, json=body, client=HERE)
        assert answer.status == status, body
    assert open_server.services.gateway.asked == []


@pytest.mark.parametrize("function", [chat, sessions])
async def test_a_message_needs_a_credential_by_default(server: Server, function: Any) -> None:
    assert (await ask(function, json={"message": "Hello"}, client=HERE)).status == 401


async def test_a_cookie_alone_is_told_of_the_ticket(server: Server) -> None:
    """A browser's EventSource sends no header with a credential."""
    cookie = {"cookie": f"session_id={await server.say()}"}
    answer = await server.send("GET", "/stream", headers=cookie)
    assert (answer.status, "/ticket" in answer.json()["error"]["message"]) == (401, True)
    assert "/ticket" not in (await server.send("GET", "/sessions", headers=cookie)).json()["error"]["message"]


async def test_anonymous_callers_of_this_machine_share_a_session(open_server: Server) -> None:
    first = await open_server.say(headers={})
    assert await open_server.say(headers={}) == first
    assert await open_server.say(headers={}, client=THERE) != first
    answer = await open_server.send("GET", f"/sessions/{first}", headers={}, client=THERE)
    assert answer.status == 404


async def test_anonymous_callers_elsewhere_get_a_session_each(open_server: Server) -> None:
    """Its id is the only proof of whose it is."""
    one, two = [await open_server.say(headers={}, client=THERE) for _ in range(2)]
    assert one != two
    assert await open_server.say(headers=cookie(one), client=("192.0.2.99", 1)) == one
    assert (await open_server.send("GET", "/sessions", headers={}, client=THERE)).json() == {"sessions": []}
    listed = (await open_server.send("GET", "/sessions", headers=cookie(two), client=THERE)).json()["sessions"]
    assert [shown["session_id"] for shown in listed] == [two]


async def test_a_stranger_cannot_fill_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages of a day are bounded, long ones count several times, and a caller with an admin key has no such bound."""
    server = Server({**OPEN, "HOST": "0.0.0.0", "RATE_LIMIT_PER_MINUTE": "1000"}, monkeypatch)
    monkeypatch.setattr("shared.settings.shares.MAX_STORED_MESSAGES", 5)
    await server.say(headers={}, client=THERE)
    await server.say("x" * 40_000, headers={}, client=THERE)
    stopped = await server.send("POST", "/chat", json={"message": "x" * 20_000}, headers={}, client=THERE)
    assert (stopped.status, stopped.error["code"]) == (429, "rate_limited")
    assert "5 stored messages" in stopped.error["message"]
    for _ in range(7):
        await server.say()


# -- what else the function answers ------------------------------------------------------------------------------------


async def test_sessions_answers_the_other_paths_of_its_clients(open_server: Server) -> None:
    assert (await open_server.send("GET", "/", headers={})).json() == {"status": "healthy"}
    assert (await open_server.send("POST", "/chat", json={"prompt": "Hello"})).json()["text"] == "Bonjour"
    answer = await open_server.send("POST", "/generate_text", json={"prompt": "Hello"})
    assert answer.json() == {"generated_text": "Bonjour"}
    assert (await open_server.send("POST", "/generate_text", json={"prompt": "Hello"}, headers={})).status == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": ""}, "message"),
        ({"message": " \n"}, "message"),
        ({"message": 1}, "message"),
        ({"message": "x", "prompt": "y"}, "message"),
        ({"message": "x", "contents": []}, "contents"),
        ({"message": "x", "stream": True}, "message"),
        ({"message": "x", "session_id": 1}, "session_id"),
        ({"prompt": "x", "session_id": "y"}, "session_id"),
        ({"session_id": "y"}, "session_id"),
        ({"message": "x" * 262_145}, "message"),
    ],
)
async def test_invalid_message_names_its_field(server: Server, body: dict[str, Any], field: str) -> None:
    answer = await server.send("POST", "/chat", json=body)
    assert (answer.status, answer.error["details"]["field"]) == (400, field)


async def test_session_ids_are_in_no_log_line(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    sid = await server.say()
    turn = (await server.send("GET", f"/sessions/{sid}?limit=1")).json()["pending"]
    await server.send("GET", f"/sessions/{sid[::-1]}")
    await server.send("GET", "/sessions", headers={**ADMIN, "x-session-id": sid})
    await server.send("DELETE", f"/sessions/{sid}")
    shown = "".join(capfd.readouterr())
    assert "/sessions/{id}" in shown
    assert not [secret for secret in (sid, sid[::-1], turn) if secret in shown]
