"""GET /try: one file, whose policy allows nothing but its own script and style."""

from __future__ import annotations

import base64
import hashlib
import re
from unittest.mock import patch

import pytest

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
    paths = re.findall(
        r"""(?:(?:call|oneByOne)\("[A-Z]+", |return )[`"]((?:stream|sessions|chat|upload|/)[^`"]*)""", HTML
    )
    assert {path.split("/")[0].split("?")[0] for path in paths} == {"chat", "upload", "stream", "sessions"}


def variables(scheme: str) -> dict[str, tuple[float, ...]]:
    """The colours of the light or the dark page, as red, green and blue from 0 to 1."""
    light, dark = re.findall(r":root \{(.*?)\n *\}", HTML, re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): #([0-9a-f]{3,6});", light if scheme == "light" else light + dark))
    wide = {name: "".join(digit * 2 for digit in value) if len(value) == 3 else value for name, value in found.items()}
    return {name: tuple(int(value[at : at + 2], 16) / 255 for at in (0, 2, 4)) for name, value in wide.items()}


def luminance(colour: tuple[float, ...]) -> float:
    """WCAG 2.2, relative luminance."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_enough_contrast(scheme: str) -> None:
    """WCAG 2.2 AA: 4.5 to 1 for text."""
    colours = variables(scheme)
    pairs = [(text, back) for text in ("text", "dim") for back in ("page", "card", "mine")]
    pairs += [("text", "code"), ("accent", "page"), ("on-accent", "accent"), ("bad", "bad-back")]
    for pair in pairs:
        darker, lighter = sorted(luminance(colours[name]) for name in pair)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, pair
