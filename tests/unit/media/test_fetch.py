"""An address that a caller gave is fetched from public places alone, whatever names and redirects say."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from shared.errors import BadRequest
from shared.media.fetch import MAX_REDIRECTS, Fetcher
from shared.media.look_ups import Asker, LookUps
from tests.support.https_site import Site, certificate, https_site

HOST = "images.example"
PUBLIC = "127.0.0.2"
"""Stands for an address out there; 127.0.0.1 stands for this machine, as it is."""
IMAGE = b"the bytes of an image"
MAX_BYTES = 100_000


class Names:
    """A name server: the addresses of a host in turn, the last of them from then on."""

    def __init__(self, **hosts: Sequence[Sequence[str]]) -> None:
        self.answers = {host.replace("_", "."): list(answers) for host, answers in hosts.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise OSError("no such host")
        answers = self.answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return certificate(HOST, tmp_path)


@pytest.fixture
async def site(pem: Path) -> AsyncIterator[Site]:
    async with https_site(PUBLIC, pem) as site:
        site.pages["/a.png"] = IMAGE
        yield site


def fetcher(pem: Path | None, **hosts: Sequence[Sequence[str]]) -> tuple[Fetcher, Names]:
    names = Names(**{"images_example": [[PUBLIC]], "inside_example": [["127.0.0.1"]], **hosts})
    tls = None if pem is None else ssl.create_default_context(cafile=str(pem))
    return Fetcher(resolve=names.resolve, is_public=lambda address: address == PUBLIC, tls=tls), names


async def refusal(site: Site, pem: Path, url: str, **hosts: Sequence[Sequence[str]]) -> str:
    made, _ = fetcher(pem, **hosts)
    with pytest.raises(BadRequest) as caught:
        await made.fetch(url.replace("PORT", str(site.port)), "input_images[0]", MAX_BYTES)
    assert caught.value.details == {"field": "input_images[0]"}
    assert PUBLIC not in caught.value.message
    assert "127.0.0.1" not in caught.value.message
    return caught.value.message


async def test_an_image_is_fetched_and_nothing_of_ours_goes_with_it(site: Site, pem: Path) -> None:
    made, _ = fetcher(pem)
    assert await made.fetch(f"https://{HOST}:{site.port}/a.png", "x", MAX_BYTES) == IMAGE
    ((_, headers),) = site.asked
    assert {name.lower() for name in headers} == {"host", "accept", "accept-encoding", "user-agent", "connection"}


async def test_a_redirect_is_followed_to_a_public_place(site: Site, pem: Path) -> None:
    site.pages["/moved"] = "/a.png"
    made, names = fetcher(pem)
    assert await made.fetch(f"https://{HOST}:{site.port}/moved", "x", MAX_BYTES) == IMAGE
    assert names.asked == [HOST, HOST], "the name is looked up and checked anew"


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://localhost/a.png", "unknown or not at a public address"),
        ("https://inside.example/a.png", "not at a public address"),
        ("https://127.0.0.1/a.png", "not at a public address"),
        ("https://[::1]/a.png", "not at a public address"),
        ("https://169.254.169.254/", "not at a public address"),
        ("http://images.example/a.png", "only https"),
        ("file:///etc/passwd", "only https"),
        ("//169.254.169.254/", "not at a public address"),
        ("https://me:secret@images.example/a.png", "credentials"),
        ("https://[broken", "cannot be fetched"),
    ],
)
async def test_a_redirect_leads_no_further_than_the_first_address_may(
    site: Site, pem: Path, location: str, words: str
) -> None:
    site.pages["/moved"] = location
    assert words in await refusal(site, pem, f"https://{HOST}:PORT/moved")
    assert [path for path, _ in site.asked] == ["/moved"]


async def test_dns_change_after_the_check_has_no_effect(site: Site, pem: Path) -> None:
    """The address that was checked is connected to: nobody asks for it a second time."""
    made, names = fetcher(pem, images_example=[[PUBLIC], ["127.0.0.1"]])
    assert await made.fetch(f"https://{HOST}:{site.port}/a.png", "x", MAX_BYTES) == IMAGE
    assert names.asked == [HOST]


async def test_one_inner_address_among_public_ones_condemns_the_name(site: Site, pem: Path) -> None:
    url = f"https://{HOST}:PORT/a.png"
    assert "not at a public address" in await refusal(site, pem, url, images_example=[[PUBLIC, "127.0.0.1"]])
    assert site.asked == []


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0177.0.0.1", "127.1", "0", "1.2.3.4.5", "127.0.0.2.", "[fe80::1%25lo]", "[::ffff:127.0.0.2]"],
)
async def test_what_looks_like_an_address_is_one_or_is_refused(site: Site, pem: Path, host: str) -> None:
    """The client underneath asks no resolver of ours for them."""
    made, names = fetcher(pem)
    with pytest.raises(BadRequest, match="not at a public address"):
        await made.fetch(f"https://{host}:{site.port}/a.png", "x", MAX_BYTES)
    assert (names.asked, site.asked) == ([], [])


@pytest.mark.parametrize("host", ["xn--", "xn--a", "...", "-", "a" * 300, "images.example%00"])
async def test_a_host_that_cannot_be_is_not_known(site: Site, pem: Path, host: str) -> None:
    assert "its host is unknown" in await refusal(site, pem, f"https://{host}/")
    site.pages["/moved"] = f"https://{host}/"
    assert "its host is unknown" in await refusal(site, pem, f"https://{HOST}:PORT/moved")


async def test_redirects_end(site: Site, pem: Path) -> None:
    site.pages["/round"] = "/round"
    assert "redirects" in await refusal(site, pem, f"https://{HOST}:PORT/round")
    assert len(site.asked) == MAX_REDIRECTS + 1


async def test_too_many_bytes_are_not_read(site: Site, pem: Path) -> None:
    site.pages["/large"] = bytes(MAX_BYTES + 1)
    assert "larger than" in await refusal(site, pem, f"https://{HOST}:PORT/large")


async def test_a_slow_site_is_left(site: Site, pem: Path) -> None:
    site.slow = True
    made, _ = fetcher(pem)
    with pytest.raises(BadRequest, match="was not received within"):
        await made.fetch(f"https://{HOST}:{site.port}/a.png", "x", MAX_BYTES, 0.2)


async def test_a_site_that_sends_a_little_at_a_time_is_left(site: Site, pem: Path) -> None:
    site.drips = True
    made, _ = fetcher(pem)
    with pytest.raises(BadRequest, match="was not received within"):
        await made.fetch(f"https://{HOST}:{site.port}/a.png", "x", MAX_BYTES, 0.5)


async def test_declared_oversize_ends_the_fetch(site: Site, pem: Path) -> None:
    site.claims_bytes = 10 * MAX_BYTES
    assert "larger than" in await refusal(site, pem, f"https://{HOST}:PORT/a.png")


async def test_slow_dns_delays_only_fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def silent(*_: object, **__: object) -> list[object]:
        answered.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    try:
        made = Fetcher(partial(LookUps().resolve, Asker("ip:192.0.2.1", True)))
        asked = [made.fetch(f"https://{number}.example/", "x", MAX_BYTES, 0.2) for number in range(50)]
        said = await asyncio.gather(*asked, return_exceptions=True)
        assert {str(error) for error in said} == {"x was not received within 0.2 s."}
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 30) == "done"
    finally:
        answered.set()


async def test_of_a_body_that_is_cut_off_nothing_is_taken(site: Site, pem: Path) -> None:
    site.claims_bytes = len(IMAGE) + 1
    assert "sent an invalid response" in await refusal(site, pem, f"https://{HOST}:PORT/a.png")


async def test_other_status_is_reported(site: Site, pem: Path) -> None:
    assert "status 404" in await refusal(site, pem, f"https://{HOST}:PORT/missing")


async def test_untrusted_certificate_is_rejected(site: Site) -> None:
    made, _ = fetcher(None)
    with pytest.raises(BadRequest, match="certificate is not valid"):
        await made.fetch(f"https://{HOST}:{site.port}/a.png", "x", MAX_BYTES)


@pytest.mark.parametrize(
    "url", ["https://", "https://:443/", "https://images.example:99999/", "https://images.example:0/", "https://[::1"]
)
async def test_invalid_url_is_reported(site: Site, pem: Path, url: str) -> None:
    assert "not a valid URL" in await refusal(site, pem, url)


async def test_unreachable_site_is_reported(site: Site, pem: Path) -> None:
    assert "cannot be reached" in await refusal(site, pem, f"https://{HOST}:1/a.png")


async def test_unknown_and_internal_names_read_the_same(site: Site, pem: Path) -> None:
    """Otherwise a caller could find out which names exist in the network of this server."""
    hosts = {"mixed_example": [[PUBLIC, "127.0.0.1"]], "empty_example": [[]]}
    names = ("nowhere.example", "inside.example", "mixed.example", "empty.example", "127.0.0.1", "[::1]")
    site.pages.update({f"/to/{name}": f"https://{name}/a.png" for name in names})
    messages = {await refusal(site, pem, f"https://{name}/a.png", **hosts) for name in names}
    messages |= {await refusal(site, pem, f"https://{HOST}:PORT/to/{name}", **hosts) for name in names}
    (message,) = messages
    assert message.startswith("input_images[0] cannot be fetched: its host is unknown or not at a public address;")
