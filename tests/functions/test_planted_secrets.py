"""Secrets of every kind in a running server: none is in the traces that it exports, its output, its store or an answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from shared.emulator import EmulatorConfig, running
from tests.support.accounts_command import Command
from tests.support.fake_google import fake_google
from tests.support.otlp import Receiver, receiver
from tests.support.planted_secrets import ADMIN_KEY, ENVIRONMENT, found_in, planted, run_everything
from tests.support.processes import request, served

SUSPENDED = "AQ.suspended-key-0007"
"""Google repeats it in its error."""
ADMIN = {"Admin-API-Key": ADMIN_KEY}
MAX_ASKED = 160


class Stored(NamedTuple):
    """`accounts`: the ids of all, the environment's too."""

    folder: Path
    ledger_url: str
    accounts: set[str]


@pytest.fixture
def stored(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Stored:
    """A store with accounts of all kinds, to which every secret came."""
    with fake_google({}) as google:
        command = Command(tmp_path, google, capsys, monkeypatch)
        command.env["ALLOW_SESSION_ACCOUNTS"] = "1"
        run_everything(command, tmp_path)
    ids = {"gemini-api-key", "gemini-api-key-2", *(account.id for account in command.stored().accounts)}
    return Stored(tmp_path, command.env["LEDGER_URL"], ids)


def server_env(ledger_url: str, gemini: str, traces: str) -> dict[str, str]:
    names = ("GEMINI_BASE_URL", "VERTEX_BASE_URL", "ENTERPRISE_BASE_URL", "ENTERPRISE_SESSION_BASE_URL")
    return {
        **ENVIRONMENT,
        **dict.fromkeys(names, gemini),
        "OAUTH_TOKEN_URL": f"{gemini}/token",
        "GEMINI_API_KEY_2": SUSPENDED,
        "GEMINI_CONCURRENCY_LIMIT": "1",
        "ALLOW_SESSION_ACCOUNTS": "1",
        "LEDGER_URL": ledger_url,
        "LOG_LEVEL": "debug",
        "OTEL_EXPORTER_OTLP_ENDPOINT": traces,
    }


async def ask(url: str, number: int, body: dict[str, Any], **headers: str) -> tuple[int, str]:
    given = {
        "x-request-id": f"asked-{number}",
        **ADMIN,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    status, _, answer = await request("POST", url, json=body, headers=given)
    return status, str(answer)


async def misplace(url: str, secret: str) -> None:
    """Send a secret wherever a caller may put it by mistake. Only the name that a caller gives itself is logged as it is."""
    safe = secret.replace("\n", " ")
    prompt = {"prompt": "Hello"}
    await asyncio.gather(
        ask(f"{url}/chat", 0, {**prompt, "credentials": {"gemini_api_key": secret}}, Admin_API_Key=""),
        ask(f"{url}/chat", 0, {**prompt, "credentials": {"gemini_api_key": secret}, "stream": True}, Admin_API_Key=""),
        ask(f"{url}/chat", 0, {**prompt, "model": secret}),
        ask(f"{url}/chat", 0, {**prompt, secret: secret}),
        ask(f"{url}/chat?key={quote(secret)}", 0, prompt),
        ask(f"{url}/{quote(secret)}", 0, prompt),
        ask(f"{url}/chat", 0, prompt, traceparent=f"00-{safe}-01"),
        ask(f"{url}/chat", 0, prompt, x_goog_api_key=safe, Admin_API_Key="wrong"),
    )


def accounts_in(traces: Receiver) -> set[str]:
    return {span.attributes["gateway.account"] for span in traces.spans if "gateway.account" in span.attributes}


def text_of(traces: Receiver) -> bytes:
    return b"\n".join(traces.bodies)


async def test_no_planted_secret_is_in_traces_output_or_answers(stored: Stored) -> None:
    async with (
        receiver() as traces,
        running(EmulatorConfig()) as gemini,
        served(server_env(stored.ledger_url, gemini.url, traces.url)) as server,
    ):
        answers: list[tuple[int, str]] = []
        while len(answers) < MAX_ASKED and not accounts_in(traces) >= stored.accounts:
            # With one slot each, all accounts are in use at once.
            asked = [
                ask(f"{server.url}/chat", len(answers) + n, {"prompt": "Hello [[latency:500]]"}) for n in range(16)
            ]
            answers += await asyncio.gather(*asked)
        own = text_of(traces)
        for secret in planted().values():
            await misplace(server.url, secret)
        assert await server.end() == 0
        output = server.output
    # What belongs into a trace is found there by the same search of the same bytes.
    assert all(f"asked-{number}".encode() in own for number in range(len(answers)))
    assert accounts_in(traces) >= stored.accounts
    assert {status for status, _ in answers} == {200}
    assert '"request_id":"asked-0"' in output
    everywhere = {
        "traces": text_of(traces),
        "output": output.encode(),
        "store": b"".join(path.read_bytes() for path in stored.folder.glob("ledger.db*") if path.is_file()),
        "answers": "\n".join(text for _, text in answers).encode(),
    }
    assert all(everywhere.values())
    assert found_in(everywhere) == {}
    assert SUSPENDED not in str(everywhere)


@pytest.mark.parametrize("name", planted())
def test_each_secret_would_be_found(name: str) -> None:
    secret = planted()[name]
    for text in (secret, quote(secret, safe=""), secret.encode().hex()):
        assert found_in({"traces": b"\x0a\x8f" + f"generate_content {text}\xff".encode()}) == {"traces": [name]}
