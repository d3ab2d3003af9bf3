"""GET /try: one file, whose policy allows nothing but its own script and style."""

from __future__ import annotations

import base64
import hashlib
import re
from unittest.mock import patch

from functions.sessions.main import sessions
from functions.sessions.try_page import FILE, policy
from tests.support.edge import Answer, FakeServices, ask

HTML = FILE.read_text()
MARKUP = re.sub(r"<(script|style)>.*?</\1>", "", HTML, flags=re.DOTALL)


async def opened(**headers: str) -> Answer:
    """Without a credential, on a server where ALLOW_ANONYMOUS names no function."""
    with patch("shared.bootstrap.services", FakeServices):
        return await ask(sessions, "GET", "/try", headers=headers)


async def test_page_needs_no_credential() -> None:
    answer = await opened()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.body == FILE.read_bytes()


async def test_page_is_not_sent_again() -> None:
    answer = await opened()
    assert (await opened(**{"if-none-match": answer.headers["etag"]})).status == 304


async def test_policy_names_the_script_and_the_style_by_hash() -> None:
    rules = dict(rule.split(" ", 1) for rule in (await opened()).headers["content-security-policy"].split("; "))
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", HTML, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert (rules["default-src"], rules["connect-src"]) == ("'none'", "'self'")
    assert "unsafe" not in str(rules)


def test_a_changed_script_has_another_hash() -> None:
    assert policy(b"<script>1</script><style></style>") != policy(b"<script>2</script><style></style>")


def test_page_has_no_inline_handlers_or_styles() -> None:
    """The policy would forbid them, and a button would do nothing."""
    assert re.findall(r"\s(on\w+|style)=", MARKUP) == []


def test_page_loads_nothing_from_elsewhere() -> None:
    addresses = re.findall(r'\s(?:src|href|action)="([^"]*)"', MARKUP)
    assert addresses
    assert [address for address in addresses if not address.startswith(("#", "data:"))] == []


def test_addresses_in_the_script_are_relative() -> None:
    """So the page also works where the function has an address with a path."""
    paths = re.findall(r"""(?:call\("[A-Z]+", |return )[`"]((?:stream|sessions|chat|upload|/)[^`"]*)""", HTML)
    assert {path.split("/")[0].split("?")[0] for path in paths} == {"chat", "upload", "stream", "sessions"}
