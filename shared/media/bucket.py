"""Images and files in a bucket, through obstore: Google Cloud Storage, S3 and compatible stores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.store import GCSStore, S3Store

from shared.media import obstore_calls
from shared.media.location import StorageLocation
from shared.media.names import is_name
from shared.media.obstore_calls import storage_errors
from shared.media.port import Found, Write
from shared.media.resumable import Resumable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSConfig, RetryConfig, S3Config

_RETRIES: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}
_NO_CREDENTIALS = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}


class Bucket:
    """The objects in one folder of a bucket; port.Objects describes the methods."""

    def __init__(self, store: GCSStore | S3Store, folder: str, resumable: Resumable | None = None) -> None:
        """`resumable`: of a bucket of Google's."""
        self._store = store
        self._folder = folder
        self._resumable = resumable

    async def put(self, name: str, data: bytes, attributes: Mapping[str, str]) -> None:
        """Uploads in one request, so that an object appears only when it is complete and no parts are left behind."""
        async with storage_errors():
            await obstore.put_async(
                self._store, f"{self._folder}/{name}", data, attributes=dict(attributes), use_multipart=False
            )

    def writing(self, name: str, attributes: Mapping[str, str]) -> AbstractAsyncContextManager[Write]:
        return obstore_calls.writing(self._store, f"{self._folder}/{name}", attributes)

    async def get(self, name: str, part: tuple[int, int] | None = None) -> Found:
        return await obstore_calls.read(self._store, f"{self._folder}/{name}", part)

    async def head(self, name: str) -> Found:
        return await obstore_calls.head(self._store, f"{self._folder}/{name}")

    async def names(self, after: str | None, limit: int) -> list[str]:
        """Both stores list in alphabetical order (cloud.google.com/storage/docs/json_api/v1/objects/list; AWS: ListObjectsV2,
        general purpose buckets)."""
        names: list[str] = []
        async with storage_errors():
            async for objects in obstore.list(self._store, self._folder, offset=after and f"{self._folder}/{after}"):
                listed = (found["path"].rpartition("/")[2] for found in objects)
                # Some compatible stores ignore the offset.
                names.extend(name for name in listed if is_name(name) and name > (after or ""))
                if len(names) >= limit:
                    break
        return names[:limit]

    async def delete(self, name: str) -> None:
        await obstore_calls.delete(self._store, f"{self._folder}/{name}")

    async def rename(self, name: str, new_name: str) -> None:
        await obstore_calls.rename(self._store, f"{self._folder}/{name}", f"{self._folder}/{new_name}")

    async def upload_url(self, name: str, size_bytes: int, expires_s: int, origin: str) -> str | None:
        if self._resumable is not None:
            return await self._resumable.start(f"{self._folder}/{name}", size_bytes, origin)
        async with storage_errors():
            return await obstore.sign_async(self._store, "PUT", f"{self._folder}/{name}", timedelta(seconds=expires_s))

    async def signed_url(self, name: str, expires_s: int) -> str:
        async with storage_errors():
            return await obstore.sign_async(self._store, "GET", f"{self._folder}/{name}", timedelta(seconds=expires_s))

    async def sweep(self, expired_after: str) -> bool:
        """Deletes nothing: the bucket's own lifecycle rule does."""
        return True


def open_bucket(location: StorageLocation, folder: str) -> Bucket:
    """Opens a bucket with the credentials that the stores' own clients find: the platform's service account, AWS_* variables."""
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
            S3Store(location.place, prefix=prefix, config=amazon, client_options=client, retry_config=_RETRIES), folder
        )
    google: GCSConfig = {"base_url": endpoint} if endpoint is not None else {}
    if plain:
        # Plain HTTP is for fake stores, which need no token; a real one must not be sent unencrypted.
        google["service_account_key"] = json.dumps({**_NO_CREDENTIALS, "gcs_base_url": endpoint})
    store = GCSStore(location.place, prefix=prefix, config=google, client_options=client, retry_config=_RETRIES)
    return Bucket(store, folder, Resumable(location))
