"""The browser's own EventSource behind a proxy that cuts the stream: it reconnects by itself, and the text is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.cutting_proxy import cutting_proxy

if TYPE_CHECKING:
    from tests.browser.conftest import Opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORDS = 300
STREAMED = """
async ([text, reconnects]) => {
  const headers = {"content-type": "application/json", "x-session-id": "new"};
  const chat = await fetch("chat", {method: "POST", headers, body: JSON.stringify({message: text})}).then((r) => r.json());
  const ids = [];
  let answer = "", opens = 0;
  await new Promise((resolve, reject) => {
    const source = new EventSource("stream");
    const take = (event) => ids.push(event.lastEventId);
    source.onopen = () => { opens += 1; };
    source.onmessage = (event) => { take(event); answer += event.data; };
    source.addEventListener("usage", take);
    source.addEventListener("done", take);
    source.addEventListener("interrupted", () => reject(new Error("interrupted")));
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(); };
  });
  const history = await fetch(`sessions/${chat.session_id}`).then((r) => r.json());
  return {ids, answer, opens, history};
}
"""
"""It never closes the source: after `done`, EventSource reconnects once more, and the server's 204 ends it."""


async def test_eventsource_resumes_after_a_cut(gateway: str, opened: Opened) -> None:
    async with cutting_proxy(gateway, after_events=5) as proxy:
        page = await opened(f"{proxy.url}/try", may_fail=True)
        said = await page.evaluate(STREAMED, [f"[[words:{WORDS}]] Hello.", 1])
        assert proxy.cuts == 1
    assert said["opens"] == 2
    assert len(said["answer"].split()) == WORDS
    assert said["answer"] == said["history"]["turns"][-1]["answer"]
    turns = {id_.rpartition(".")[0] for id_ in said["ids"]}
    places = [int(id_.rpartition(".")[2]) for id_ in said["ids"]]
    assert len(turns) == 1
    assert places == sorted(set(places))


async def test_the_page_resumes_after_a_cut(gateway: str, opened: Opened) -> None:
    async with cutting_proxy(gateway, after_events=5) as proxy:
        page = await opened(f"{proxy.url}/try", may_fail=True)
        await page.get_by_label("Message", exact=True).fill(f"[[words:{WORDS}]] Hello.")
        await page.keyboard.press("Enter")
        await page.locator("#messages .note", has_text="tokens").wait_for()
        assert proxy.cuts == 1
        assert len((await page.locator(".answer").inner_text()).split()) == WORDS
