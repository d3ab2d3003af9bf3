"""Web sites on this machine with certificates of their own, for tests of fetched images."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Site:
    """Answers with the `pages`: bytes, a status, or a redirect; records the request headers."""

    pages: dict[str, bytes | int | str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0
    slow: bool = False
    drips: bool = False
    """Whether it sends single bytes without end."""
    claims_bytes: int | None = None
    """The Content-Length that is sent, regardless of the body."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, dict(request.headers)))
        page = self.pages.get(request.path, 404)
        if self.slow:
            await asyncio.sleep(60)
        if isinstance(page, int):
            return web.Response(status=page)
        if isinstance(page, str):
            return web.Response(status=302, headers={"location": page})
        response = web.StreamResponse()
        if self.claims_bytes is None:
            response.enable_chunked_encoding()
        else:
            response.content_length = self.claims_bytes
        await response.prepare(request)
        while self.drips:
            await response.write(b".")
            await asyncio.sleep(0.01)
        await response.write(page)
        if self.claims_bytes is not None and request.transport is not None:
            request.transport.close()
        return response


def certificate(host: str, folder: Path) -> Path:
    """A self-signed certificate for `host` and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    file = folder / f"{host}.pem"
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return file


@asynccontextmanager
async def https_site(address: str, pem: Path) -> AsyncIterator[Site]:
    """Serves `site` on a free port of `address` (of this machine: 127.0.0.0/8)."""
    site = Site()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    runner = web.ServerRunner(web.Server(site.answer), shutdown_timeout=0.05)  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, address, 0, ssl_context=tls).start()
    site.port = runner.addresses[0][1]
    try:
        yield site
    finally:
        await runner.cleanup()
