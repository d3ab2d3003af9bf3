"""The page at /try, as a person uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.image_samples import written
from tests.support.processes import ADMIN_KEY

if TYPE_CHECKING:
    from playwright.async_api import FilePayload, Page, Route

    from tests.browser.conftest import Opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

ANSWER = "#messages > li:last-child .answer"
NOTE = "#messages .note"
BUSY = "#messages > li[aria-busy=true]"
GREW = f"(before) => document.querySelector('{ANSWER}').textContent.length > before"
ENDED = f"() => document.querySelector('{ANSWER}')?.textContent && !document.querySelector('{BUSY}')"
SCREENSHOTS = Path("dist/try")
LONG = "[[words:600]] Go on at length."
"""The offline Gemini's answer to it takes about two seconds."""


async def send(page: Page, text: str) -> None:
    await page.get_by_label("Message", exact=True).fill(text)
    await page.keyboard.press("Enter")


async def shown(page: Page) -> str:
    """The last answer as it is now; waits until it has a first word."""
    await page.wait_for_function(GREW, arg=0)
    return await page.locator(ANSWER).inner_text()


async def whole(page: Page) -> str:
    """The last answer, after its end."""
    await page.wait_for_function(ENDED)
    return await page.locator(ANSWER).inner_text()


async def test_an_answer_grows_while_it_is_written(gateway: str, opened: Opened) -> None:
    page = await opened(f"{gateway}/try")
    await send(page, LONG)
    first = await shown(page)
    await page.wait_for_function(GREW, arg=len(first))
    assert await page.locator(BUSY).count() == 1
    answer = await whole(page)
    assert answer.startswith(first)
    assert len(answer.split()) == 600
    assert "tokens" in await page.locator(NOTE).inner_text()
    assert await page.get_by_role("status").inner_text() == "The answer is complete."


async def test_stop_keeps_the_text_so_far(gateway: str, opened: Opened) -> None:
    page = await opened(f"{gateway}/try")
    await send(page, LONG)
    await shown(page)
    await page.get_by_role("button", name="Stop").click()
    answer = await whole(page)
    assert len(answer.split()) < 600
    assert await page.locator(NOTE).inner_text() == "Stopped."
    await page.reload()
    await page.locator(NOTE, has_text="Stopped.").wait_for()
    assert await page.locator(ANSWER).inner_text() == answer


async def test_an_image_is_attached_and_asked_about(gateway: str, opened: Opened, tmp_path: Path) -> None:
    image = tmp_path / "picture.png"
    image.write_bytes(written("PNG", (64, 48)))
    page = await opened(f"{gateway}/try")
    await page.set_input_files("#picker", image)
    await send(page, "What is in the picture?")
    assert "With it came image/png" in await whole(page)
    await page.reload()
    await page.locator("#messages .file", has_text="picture.png").wait_for()
    assert "What is in the picture?" in await page.locator(".mine").inner_text()


async def test_an_image_alone_is_a_message(gateway: str, opened: Opened, tmp_path: Path) -> None:
    """It waits in the session for the next message, also while the page is loaded again."""
    image = tmp_path / "alone.png"
    image.write_bytes(written("PNG", (8, 8)))
    page = await opened(f"{gateway}/try")
    await page.set_input_files("#picker", image)
    await page.get_by_role("status").filter(has_text="alone.png is attached.").wait_for()
    await page.reload()
    await page.locator("#attached li", has_text="alone.png").wait_for()
    await page.get_by_role("button", name="Send").click()
    assert "image/png" in await whole(page)


async def test_a_program_named_png_is_refused(gateway: str, opened: Opened, tmp_path: Path) -> None:
    program = tmp_path / "tool.png"
    program.write_bytes(b"MZ" + bytes(200))
    page = await opened(f"{gateway}/try", may_fail=True)
    await page.set_input_files("#picker", program)
    await page.locator("#warning", has_text="tool.png").wait_for()
    assert await page.locator("#attached li").count() == 0


async def test_reload_shows_the_history_in_order(gateway: str, opened: Opened) -> None:
    page = await opened(f"{gateway}/try")
    for text in ("First question.", "Second question."):
        await send(page, text)
        answer = await whole(page)
    assert "2 messages came before it" in answer
    before = await page.locator("#messages").inner_text()
    await page.reload()
    await page.locator("#messages > li").nth(3).wait_for()
    assert await page.locator(".mine .text").all_inner_texts() == ["First question.", "Second question."]
    assert (await page.locator("#messages").inner_text()).split() == before.split()


async def test_reload_follows_the_answer_that_is_being_written(gateway: str, opened: Opened) -> None:
    page = await opened(f"{gateway}/try")
    await send(page, LONG)
    await shown(page)
    await page.reload()
    await page.locator(BUSY).wait_for()
    assert len((await whole(page)).split()) == 600


async def test_reload_mixes_up_no_answers(gateway: str, opened: Opened) -> None:
    """A message without an answer of its own, because the next one came first."""
    page = await opened(f"{gateway}/try")
    await send(page, "First question.")
    first = await whole(page)
    script = """text => fetch("chat", {method: "POST", headers: {"content-type": "application/json", "x-session-id": session},
      body: JSON.stringify({message: text})}).then((answer) => answer.ok)"""
    assert await page.evaluate(script, "Second question.")
    await send(page, "Third question.")
    answer = await whole(page)
    await page.reload()
    await page.locator("#messages .answer").nth(1).wait_for()
    assert await page.locator("#messages .answer").all_inner_texts() == [first, answer]
    assert await page.locator(".mine").count() == 3


async def test_a_line_of_many_marks_is_shown(gateway: str, opened: Opened) -> None:
    """Neither the page's stack nor its time grows with it."""
    page = await opened(f"{gateway}/try")
    shown = await page.evaluate("inline('**A** or **B**, *x* or `y`').map((part) => part.outerHTML ?? part)")
    assert "".join(shown) == "<strong>A</strong> or <strong>B</strong>, <em>x</em> or <code>y</code>"
    parts = await page.evaluate("[inline('*a* '.repeat(2000)).length, inline('['.repeat(500000)).length]")
    assert parts == [4000, 1]


async def test_two_browsers_do_not_see_each_other(gateway: str, opened: Opened) -> None:
    mine, other = await opened(f"{gateway}/try"), await opened(f"{gateway}/try")
    await send(mine, "The password is swordfish.")
    assert "swordfish" in await whole(mine)
    await other.reload()
    await send(other, "What did I say before?")
    answer = await whole(other)
    assert "swordfish" not in answer
    assert "came before" not in answer
    assert await other.locator("#sessions .open").all_inner_texts() == ["What did I say before?"]
    assert "swordfish" not in await other.evaluate("fetch('sessions').then((answer) => answer.text())")


async def test_conversations_are_opened_and_deleted_by_keyboard(gateway: str, opened: Opened) -> None:
    page = await opened(f"{gateway}/try")
    for text in ("Older.", "Newer."):
        await page.get_by_role("button", name="New chat").press("Enter")
        await send(page, text)
        await whole(page)
    await page.get_by_role("button", name="Older.", exact=True).press("Enter")
    await page.locator(".mine", has_text="Older.").wait_for()
    assert await page.locator(".mine").count() == 1
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Delete Older.").press("Enter")
    await page.locator("#empty").wait_for()
    assert await page.locator("#sessions .open").all_inner_texts() == ["Newer."]
    assert await page.evaluate("document.activeElement.id") == "text"


async def test_a_key_has_conversations_of_its_own(gateway: str, opened: Opened) -> None:
    """They are the key's: the page gets their list from the server, so another browser with the key has them too."""
    first, second = await opened(f"{gateway}/try"), await opened(f"{gateway}/try", may_fail=True)
    for page, secret in ((first, ADMIN_KEY), (second, "a-wrong-key")):
        await page.get_by_role("button", name="Key").click()
        await page.get_by_role("textbox", name="Key").fill(secret)
        await page.get_by_role("button", name="Use this key").click()
    await send(first, "Asked with a key.")
    await whole(first)
    await send(second, "Asked with a wrong one.")
    await second.locator("#warning").wait_for()
    assert await second.get_by_label("Message", exact=True).input_value() == "Asked with a wrong one."
    await second.get_by_role("button", name="Key").click()
    await second.get_by_role("textbox", name="Key").fill(ADMIN_KEY)
    await second.get_by_role("button", name="Use this key").click()
    await second.get_by_role("button", name="Asked with a key.", exact=True).click()
    await second.locator(".mine", has_text="Asked with a key.").wait_for()


def text_file(name: str) -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": b"A text."}


async def held(page: Page, path: str) -> Callable[[], None]:
    """Requests to `path` wait until the returned function is called."""
    going_on = asyncio.Event()

    async def wait(route: Route) -> None:
        await going_on.wait()
        await route.continue_()

    await page.route(f"**/{path}", wait)
    return going_on.set


@pytest.mark.parametrize("path", ["upload", "chat"])
async def test_what_ends_late_stays_in_its_conversation(path: str, gateway: str, opened: Opened) -> None:
    """A person begins another one while a file is uploaded, or while a message is sent."""
    page = await opened(f"{gateway}/try")
    go_on = await held(page, path)
    async with page.expect_request(f"**/{path}"):
        if path == "upload":
            await page.set_input_files("#picker", text_file("notes.txt"))
        else:
            await send(page, "Asked before.")
    await page.get_by_role("button", name="New chat").click()
    async with page.expect_response(f"**/{path}"):
        go_on()
    await send(page, "Asked after.")
    answer = await whole(page)
    assert "With it came" not in answer
    assert "came before it" not in answer
    assert await page.locator(".mine .text").all_inner_texts() == ["Asked after."]


async def test_files_attached_at_once_go_with_one_message(gateway: str, opened: Opened) -> None:
    """Two drops, of which each could open a conversation."""
    page = await opened(f"{gateway}/try")
    await page.evaluate("['a.txt', 'b.txt'].forEach((name) => attach([new File(['A text.'], name)]))")
    await send(page, "What are they?")
    await whole(page)
    await page.reload()
    await page.locator("#messages .note").wait_for()
    assert [name.split("\n")[0] for name in await page.locator(".mine .file").all_inner_texts()] == ["a.txt", "b.txt"]
    assert await page.locator("#sessions .open").count() == 1


async def test_reload_shows_files_that_wait(gateway: str, opened: Opened) -> None:
    page = await opened(f"{gateway}/try")
    await page.set_input_files("#picker", text_file("notes.txt"))
    await page.locator("#attached li:not(:has-text('uploading'))").wait_for()
    await page.reload()
    await page.locator("#attached", has_text="notes.txt").wait_for()
    await send(page, "What is it?")
    assert "With it came text/plain" in await whole(page)


async def test_a_rejected_message_says_why(gateway: str, opened: Opened) -> None:
    """EventSource does not tell it. After a reload each answer is where it was."""
    page = await opened(f"{gateway}/try", may_fail=True)
    await send(page, "[[fault:block]]")
    await page.locator(NOTE, has_text="Gemini blocked the prompt").wait_for()
    await send(page, "And this?")
    answer = await whole(page)
    await page.reload()
    await page.locator(NOTE).nth(1).wait_for()
    assert "Gemini blocked the prompt" in await page.locator(NOTE).first.inner_text()
    assert await page.locator(".answer").all_inner_texts() == ["", answer]


async def test_a_double_click_sends_one_message(gateway: str, opened: Opened) -> None:
    """And does not stop its answer, though the second click is one on Stop."""
    page = await opened(f"{gateway}/try")
    await page.get_by_label("Message", exact=True).fill(LONG)
    await page.get_by_role("button", name="Send").dblclick()
    assert len((await whole(page)).split()) == 600
    assert await page.locator(".mine").count() == 1


async def test_the_keyboard_keeps_its_place(gateway: str, opened: Opened) -> None:
    """When Send, or Stop, disappears under it."""
    page = await opened(f"{gateway}/try")
    for name in ("Send", "Stop"):
        await page.get_by_label("Message", exact=True).fill(LONG)
        await page.get_by_role("button", name=name).press("Enter")
        await page.get_by_role("button", name=name).wait_for(state="hidden")
        assert await page.evaluate("document.activeElement.id") == "text"


async def test_stop_before_the_answer_begins(gateway: str, opened: Opened) -> None:
    page = await opened(f"{gateway}/try")
    go_on = await held(page, "chat")
    await send(page, LONG)
    await page.get_by_role("button", name="Stop").click()
    go_on()
    await page.locator(NOTE, has_text="Stopped.").wait_for()


async def test_long_markup_is_drawn(gateway: str, opened: Opened) -> None:
    page = await opened(f"{gateway}/try")
    for part in ("*a ", "**a** ", "[a](https://b.c) ", "`a "):
        drawn = (
            "(text) => { const into = document.createElement('p'); show(text, into); return into.textContent.length; }"
        )
        assert await page.evaluate(drawn, part * 20_000) > 20_000


async def test_a_damaged_list_of_conversations_is_replaced(gateway: str, opened: Opened) -> None:
    page = await opened(f"{gateway}/try")
    await page.evaluate("localStorage.setItem('conversations', '[')")
    await page.reload()
    await send(page, "Hello.")
    await whole(page)
    assert await page.locator("#sessions .open").all_inner_texts() == ["Hello."]


async def test_nothing_scrolls_but_the_messages(gateway: str, opened: Opened) -> None:
    """In a window of 1280 x 1024 at 400 %."""
    page = await opened(f"{gateway}/try", viewport={"width": 320, "height": 256})
    for text in ("word " * 100, "x" * 500):
        await send(page, text)
        await whole(page)
    sizes = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    assert await page.evaluate(sizes) == [320, 256]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_screenshots(gateway: str, opened: Opened, tmp_path: Path, width: int, scheme: str) -> None:
    """For people, in dist/try. The test itself sees that nothing is wider than its place, and that the scheme is used."""
    (tmp_path / "picture.png").write_bytes(written("PNG", (320, 240)))
    page = await opened(f"{gateway}/try", viewport={"width": width, "height": 800}, color_scheme=scheme)
    await page.screenshot(path=SCREENSHOTS / f"{scheme}-{width}-empty.png")
    await page.set_input_files("#picker", tmp_path / "picture.png")
    await send(page, "What is in the picture, and why does a queue need to be fair?")
    await whole(page)
    await page.screenshot(path=SCREENSHOTS / f"{scheme}-{width}-answer.png")
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    too_wide = "['side', 'scroll'].filter((id) => $(id).scrollWidth > $(id).clientWidth)"
    assert await page.evaluate(too_wide) == []
    dark = await page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0] < 60")
    assert dark == (scheme == "dark")


async def test_a_failed_answer_says_why_and_can_be_tried_again(gateway: str, opened: Opened) -> None:
    """The offline Gemini rejects this prompt once; nothing was written, so the turn is still pending."""
    page = await opened(f"{gateway}/try", may_fail=True)
    await send(page, "[[fault:400x1]] Hello.")
    await page.locator("#messages .note.bad", has_text="Gemini").wait_for()
    await page.get_by_role("button", name="Try again").click()
    assert "Hello." in await whole(page)
