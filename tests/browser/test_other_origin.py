"""A page of another site: chat, upload and EventSource through CORS, with the cookie and with a ticket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.browser.conftest import ANONYMOUS
from tests.support.processes import served
from tests.support.tied import free_port

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.browser.conftest import Opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMMON = """
  const form = new FormData();
  form.append("file", new Blob(["One line of text."], {type: "text/plain"}), "notes.txt");
  const json = (body) => ({method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(body)});
  const parsed = (response) => response.json();
  const read = (source) => new Promise((resolve, reject) => {
    let answer = "";
    source.onmessage = (event) => { answer += event.data; };
    source.addEventListener("done", () => { source.close(); resolve(answer); });
    source.onerror = () => { source.close(); reject(new Error("the stream failed")); };
  });
"""
WITH_THE_COOKIE = f"""async ([gateway, text, headers]) => {{ {COMMON}
  const credentials = "include";
  const upload = await fetch(gateway + "/upload", {{method: "POST", body: form, headers, credentials}}).then(parsed);
  const chat = await fetch(gateway + "/chat", {{...json({{message: text}}), credentials}}).then(parsed);
  const answer = await read(new EventSource(gateway + "/stream", {{withCredentials: true}}));
  return {{upload, chat, answer}};
}}"""
"""What a page written for one server-wide session does, with `credentials` and `withCredentials` added."""
WITH_A_TICKET = f"""async ([gateway, text, headers]) => {{ {COMMON}
  const upload = await fetch(gateway + "/upload", {{method: "POST", body: form, headers}}).then(parsed);
  const chat = await fetch(gateway + "/chat", json({{message: text, session_id: upload.session_id}})).then(parsed);
  const {{ticket}} = await fetch(`${{gateway}}/sessions/${{chat.session_id}}/ticket`, {{method: "POST"}}).then(parsed);
  const answer = await read(new EventSource(`${{gateway}}/stream?ticket=${{ticket}}`));
  return {{upload, chat, answer}};
}}"""
"""Sends no cookie, as where the browser blocks those of other sites."""
NEW = {"x-session-id": "new"}
"""Of the first request: on loopback, callers without a credential share one session unless they open another."""
EMPTY_PAGE = '<!doctype html><title>Another site</title><link rel="icon" href="data:,">'


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site() -> AsyncIterator[int]:
    """The port of a server with an empty page: http://localhost is another site than http://127.0.0.1."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=EMPTY_PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def listing(site: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A server whose CORS_ORIGIN lists that site."""
    files = tmp_path_factory.mktemp("files")
    settings = {
        "CORS_ORIGIN": f"http://localhost:{site}",
        "ALLOW_ANONYMOUS": ANONYMOUS,
        "STORAGE_URL": f"file://{files}",
    }
    async with served(settings) as server:
        yield server.url


async def asked(page: Page, script: str, gateway: str, text: str, headers: Mapping[str, str] = NEW) -> Any:
    said = await page.evaluate(script, [gateway, text, headers])
    assert (said["upload"]["success"], said["chat"]["success"]) == (True, True)
    assert said["chat"]["session_id"] == said["upload"]["session_id"]
    return said


@pytest.mark.parametrize("script", [WITH_THE_COOKIE, WITH_A_TICKET], ids=["cookie", "ticket"])
async def test_chat_upload_and_stream_work(site: int, listing: str, opened: Opened, script: str) -> None:
    page = await opened(f"http://localhost:{site}/")
    said = await asked(page, script, listing, "Read the notes.")
    assert "Read the notes." in said["answer"]
    assert "text/plain" in said["answer"]


async def test_the_cookie_keeps_the_conversation(site: int, listing: str, opened: Opened) -> None:
    """And another browser has one of its own."""
    page, other = await opened(f"http://localhost:{site}/"), await opened(f"http://localhost:{site}/")
    first = await asked(page, WITH_THE_COOKIE, listing, "First.")
    second = await asked(page, WITH_THE_COOKIE, listing, "Second.", {})
    assert second["chat"]["session_id"] == first["chat"]["session_id"]
    assert "2 messages came before it" in second["answer"]
    elsewhere = await asked(other, WITH_THE_COOKIE, listing, "Third.")
    assert elsewhere["chat"]["session_id"] != first["chat"]["session_id"]
    assert "came before" not in elsewhere["answer"]


async def test_a_site_that_is_not_listed_is_refused(site: int, gateway: str, opened: Opened) -> None:
    """CORS_ORIGIN is `*` there, which opens nothing to anonymous pages of other sites."""
    page = await opened(f"http://localhost:{site}/", may_fail=True)
    sent = """([gateway]) => fetch(gateway + "/chat", {
      method: "POST", headers: {"content-type": "application/json"}, body: '{"message": "Hello"}'}).then((r) => r.status)"""
    assert await page.evaluate(sent, [gateway]) == 403
