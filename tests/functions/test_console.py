"""The page that shows the specification: every file that it needs comes from here, and nothing else does."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urljoin, urlsplit

import pytest

from functions.console.assets import FOLDER, NAMES
from functions.console.main import console
from shared.http.manifest import load_all
from shared.http.routes import as_template
from tests.support.edge import Answer, FakeServices, ask
from tests.support.processes import ROOT, framework, request, served

TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
FOREIGN = re.compile(r"""(?:https?:)?//[\w.-]+""")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Loaded(HTMLParser):
    """The addresses that a browser loads for a page, and what is written in the page itself."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self._within: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if address := given.get("src") or (given.get("href") if tag == "link" else None):
            self.addresses.append(address)
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        self._within = tag if tag in ("script", "style") else None

    def handle_data(self, data: str) -> None:
        if self._within and data.strip():
            self.inline.append(data)


async def test_all_that_the_page_loads_is_there_with_its_type() -> None:
    async with served({}) as server:
        status, headers, page = await request("GET", f"{server.url}/docs")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        addresses = [address for address in Loaded(page).addresses if not address.startswith("data:")]
        assert {Path(address).name for address in addresses} >= {"swagger-ui-bundle.js", "swagger-ui.css", "start.js"}
        for address in addresses:
            url = urljoin(f"{server.url}/docs", address)
            assert urlsplit(url).netloc == urlsplit(server.url).netloc
            status, headers, body = await request("GET", url)
            assert (status, headers["content-type"]) == (200, TYPES[Path(address).suffix])
            assert body.encode() == (FOLDER / address.removeprefix("docs/")).read_bytes()
        status, headers, _ = await request("GET", urljoin(f"{server.url}/docs", "openapi.json"))
        assert (status, headers["content-type"]) == (200, "application/json")


async def test_it_works_where_the_function_has_an_address_of_its_own() -> None:
    """A proxy in front takes the first part of the path away: what the page refers to must stay below it."""
    async with framework("console", "functions/console/main.py", {}) as server:
        _, _, page = await request("GET", f"{server.url}/docs")
        below = "https://region-project.cloudfunctions.net/console/"
        for address in (*Loaded(page).addresses, "openapi.json"):
            if not address.startswith("data:"):
                url = urljoin(f"{below}docs", address)
                assert url.startswith(below)
                assert (await request("GET", f"{server.url}/{url.removeprefix(below)}"))[0] == 200
        status, headers, _ = await request("GET", f"{server.url}/docs/", allow_redirects=False)
        assert (status, urljoin(f"{below}docs/", headers["location"])) == (308, f"{below}docs")


def test_page_policy_allows_only_own_files() -> None:
    """The page has no inline script."""
    page = (FOLDER / "index.html").read_text()
    assert Loaded(page).inline == []
    assert not FOREIGN.search(page)
    for name in ("start.js", "page.css"):
        assert not FOREIGN.search(re.sub(r"(?m)^\s*//.*$", "", (FOLDER / name).read_text()))


async def test_the_policy_is_sent_with_the_page() -> None:
    async with served({}) as server:
        _, headers, _ = await request("GET", f"{server.url}/docs")
    rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert (rules["script-src"], rules["connect-src"]) == ("'self'", "'self'")
    assert not [value for values in rules.values() for value in values.split() if "." in value or value == "*"]
    assert headers["x-content-type-options"] == "nosniff"


def test_no_file_loads_anything_from_elsewhere() -> None:
    """Addresses in the vendored script are names of standards and texts of links; in style sheets all are data."""
    for name in NAMES:
        text = (FOLDER / name).read_text()
        loads = (
            r"""(?:\burl\(\s*["']?|@import\s+["']?|importScripts\(["']|\bimport\(["']|\.src\s*=\s*["']|fetch\(["'])"""
        )
        assert not re.search(loads + r"(?:https?:)?//", text), name
        assert not re.search(r"unpkg|jsdelivr|cdnjs|cloudflare|googleapis", text), name


def test_what_is_vendored_is_what_the_readme_says() -> None:
    sums = dict(re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", (FOLDER / "README.md").read_text()))
    (vendored,) = (folder for folder in FOLDER.iterdir() if folder.is_dir())
    assert {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in vendored.iterdir()} == sums
    assert vendored.name.removeprefix("swagger-ui-") in (FOLDER / "README.md").read_text()
    assert vendored.name in (FOLDER / "index.html").read_text()


NO_FILES = [
    "nothing.js",
    "index.html",
    "README.md",
    "../main.py",
    "%2e%2e/main.py",
    "..%2fmain.py",
    "..%2f..%2f..%2fpyproject.toml",
    "..\\main.py",
    "..%5cmain.py",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "./start.js",
    "start.js%00.css",
    "start.js/",
    "START.JS",
    "swagger-ui-5.35.0",
    "swagger-ui-5.35.0/../start.js",
    "swagger-ui-5.35.0/LICENSE",
]


async def test_no_other_path_leads_to_a_file() -> None:
    async with served({}) as server:
        told = {name: await status_of(server.url, f"/docs/{name}") for name in NO_FILES}
    assert told == dict.fromkeys(NO_FILES, b"404")


async def status_of(url: str, path: str) -> bytes:
    """Asked for as it is written: clients of comfort tidy a path up before they send it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return (await reader.readline()).split()[1]
    finally:
        writer.close()


class TestCaching:
    async def ask(self, path: str, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        with patch("shared.bootstrap.services", FakeServices):
            return await ask(console, "GET", path, headers=given)

    async def test_only_versioned_files_are_cached_forever(self) -> None:
        for name in NAMES:
            kept = (await self.ask(f"/docs/{name}")).headers["cache-control"]
            assert kept == ("public, max-age=31536000, immutable" if "/" in name else "no-cache")
        for path in ("/docs", "/openapi.json"):
            assert (await self.ask(path)).headers["cache-control"] == "no-cache"

    @pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/docs/start.js"])
    async def test_what_a_browser_has_is_not_sent_again(self, path: str) -> None:
        first = await self.ask(path)
        tag = first.headers["etag"]
        for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
            again = await self.ask(path, if_none_match=known)
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert (await self.ask(path, if_none_match='"other"')).status == 200

    @pytest.mark.parametrize("accepted", ["gzip", "br, gzip", "gzip;q=0.5, *;q=0", "GZIP, deflate"])
    async def test_it_is_compressed_for_who_takes_that(self, accepted: str) -> None:
        plain, small = await self.ask("/openapi.json"), await self.ask("/openapi.json", accept_encoding=accepted)
        assert (small.headers["content-encoding"], small.headers["vary"]) == ("gzip", "Accept-Encoding")
        assert gzip.decompress(small.body) == plain.body
        assert len(small.body) < len(plain.body) / 3
        assert (small.headers["etag"], int(small.headers["content-length"])) == (plain.headers["etag"], len(small.body))

    @pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "gzip; q=0.0, br", "xgzip"])
    async def test_it_is_sent_as_it_is_to_who_does_not(self, accepted: str) -> None:
        answer = await self.ask("/openapi.json", accept_encoding=accepted)
        assert "content-encoding" not in answer.headers
        assert answer.json()["openapi"].startswith("3.1")

    async def test_what_is_small_is_not_compressed(self) -> None:
        assert "content-encoding" not in (await self.ask("/docs/page.css", accept_encoding="gzip")).headers


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
async def test_browser_shows_every_operation() -> None:
    """The content security policy blocks nothing that the page needs."""
    async with served({}) as server:
        arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
        ]
        process = await asyncio.create_subprocess_exec(
            str(BROWSER),
            *arguments,
            "--dump-dom",
            f"{server.url}/docs",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            page, said = await asyncio.wait_for(process.communicate(), 120)
        finally:
            if process.returncode is None:
                process.kill()
    shown = set(re.findall(r'data-path="([^"]+)"', page.decode()))
    assert shown == {as_template(pattern) for manifest in load_all(ROOT / "functions") for pattern in manifest.paths}
    assert not re.search(r"CONSOLE.*(Refused|Content Security|Error)", said.decode(errors="replace"))
