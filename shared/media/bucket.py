"""Images in a bucket, through obstore: Google Cloud Storage, S3 and what is compatible with it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import GCSStore, LocalStore, S3Store

from shared.media.names import is_name
from shared.media.port import Found, no_image, unavailable
from shared.media.url import StorageLocation

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSConfig, RetryConfig, S3Config

FOLDER = "images"
OPERATION_TIMEOUT_S = 45.0
_RETRIES: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}
_NO_CREDENTIALS = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
_ANSWERED = re.compile(r"status code: (\d{3})")
_SYSTEM = re.compile(r"([A-Z][\w ]+) \(os error \d+\)")
_NO_BUCKET = "NoSuchBucket"
"""Both stores' XML has this code; an image's name cannot."""


class Bucket:
    """Objects in a bucket. What the methods promise is in the port."""

    def __init__(self, store: GCSStore | S3Store | LocalStore) -> None:
        self._store = store

    async def put(self, name: str, data: bytes, attributes: Mapping[str, str]) -> None:
        """In one request: a store shows an object only when it has all of it, while the parts of several could stay."""
        async with answering():
            await obstore.put_async(
                self._store, f"{FOLDER}/{name}", data, attributes=dict(attributes), use_multipart=False
            )

    async def get(self, name: str, part: tuple[int, int] | None = None) -> Found:
        async with answering(missing=True):
            result = await obstore.get_async(self._store, f"{FOLDER}/{name}", options={"range": part} if part else {})
            return Found(result.attributes, result.meta["size"], bytes(await result.bytes_async()))

    async def head(self, name: str) -> Found:
        async with answering(missing=True):
            result = await obstore.get_async(self._store, f"{FOLDER}/{name}", options={"head": True})
            return Found(result.attributes, result.meta["size"])

    async def names(self, after: str | None, limit: int) -> list[str]:
        """Both stores list in that order (cloud.google.com/storage/docs/json_api/v1/objects/list; AWS: ListObjectsV2,
        general purpose buckets)."""
        names: list[str] = []
        async with answering():
            async for objects in obstore.list(self._store, FOLDER, offset=after and f"{FOLDER}/{after}"):
                listed = (found["path"].rpartition("/")[2] for found in objects)
                # Not every compatible store heeds the offset.
                names.extend(name for name in listed if is_name(name) and name > (after or ""))
                if len(names) >= limit:
                    break
        return names[:limit]

    async def delete(self, name: str) -> None:
        async with answering(missing=True):
            await obstore.delete_async(self._store, f"{FOLDER}/{name}")

    async def signed_url(self, name: str, expires_s: int) -> str:
        assert not isinstance(self._store, LocalStore)
        async with answering():
            return await obstore.sign_async(self._store, "GET", f"{FOLDER}/{name}", timedelta(seconds=expires_s))

    async def sweep(self, expired_after: str) -> bool:
        """The bucket's own lifecycle rule does it."""
        return True


def open_bucket(location: StorageLocation) -> Bucket:
    """Credentials are found as the stores' own clients find them: the platform's service account, AWS_* variables."""
    endpoint = location.endpoint
    plain = endpoint is not None and endpoint.startswith("http://")
    client: ClientConfig = {"allow_http": plain, "connect_timeout": "5s", "timeout": "30s"}
    prefix = location.prefix or None
    if location.kind == "s3":
        amazon: S3Config = {}
        if endpoint is not None:
            amazon["endpoint"] = endpoint
        if location.region is not None:
            amazon["region"] = location.region
        return Bucket(
            S3Store(location.place, prefix=prefix, config=amazon, client_options=client, retry_config=_RETRIES)
        )
    google: GCSConfig = {"base_url": endpoint} if endpoint is not None else {}
    if plain:
        # A token must not travel in the clear, and a fake store asks for none.
        google["service_account_key"] = json.dumps({**_NO_CREDENTIALS, "gcs_base_url": endpoint})
    return Bucket(GCSStore(location.place, prefix=prefix, config=google, client_options=client, retry_config=_RETRIES))


@asynccontextmanager
async def answering(*, missing: bool = False) -> AsyncIterator[None]:
    """What the storage says becomes an error of ours, which names neither an object nor an address. `missing`: it may
    say that there is no such image."""
    try:
        async with asyncio.timeout(OPERATION_TIMEOUT_S):
            yield
    except FileNotFoundError as error:
        if missing and _NO_BUCKET not in str(error):
            raise no_image() from None
        raise unavailable("its bucket or folder does not exist") from None
    except (PermissionDeniedError, UnauthenticatedError):
        raise unavailable("it refuses the gateway's credentials") from None
    except (BaseError, OSError) as error:
        raise unavailable(reason(error)) from None


def reason(error: Exception) -> str:
    """Words for the operator; what obstore says itself has addresses and objects' names in it."""
    if isinstance(error, TimeoutError):
        return f"it did not answer within {OPERATION_TIMEOUT_S:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error)
    if answered := _ANSWERED.search(text):
        return f"it answered with status {answered[1]}"
    if system := _SYSTEM.search(text):
        return system[1].lower()
    return "it cannot be reached"
