"""Input images, to be edited or as references. A caller sends each as base64, as a data URL, as the name or the URL of an
image stored here, or as an https URL, which is fetched."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from shared.errors import BadRequest, NotFound
from shared.images.choices import MAX_TOTAL_BYTES
from shared.images.links import image_url
from shared.media.input_image import InputImage, checked, decoded
from shared.media.names import is_name

FIELD = "input_images"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):")
_FORMS = "base64, a data URL, the name of a stored image, or an https URL"
_OTHER_FORMS = "; it may also be a data URL, the name of a stored image, or an https URL"
_Result = TypeVar("_Result")


class Worker(Protocol):
    """Runs a job without delaying other requests where its input is large."""

    def __call__(self, job: Callable[[], _Result], size_bytes: int = 0, /) -> Awaitable[_Result]: ...


@dataclass(frozen=True, slots=True)
class InputReader:
    """Reads the input images of one request."""

    base_url: str
    """This server's address, below which stored images have their URLs."""
    read_stored: Callable[[str], Awaitable[bytes]]
    """The bytes of a stored image. Raises NotFound, StorageUnavailable, QueueFull."""
    fetch: Callable[[str, str], Awaitable[bytes]]
    """The bytes at an https URL, sent in the field that the second argument names. Raises BadRequest, UpstreamTimeout,
    QueueFull."""
    admit_fetches: Callable[[int], Awaitable[None]]
    """Counts so many fetches in the caller's rate limit. Raises RateLimited, LedgerUnavailable."""
    work: Worker

    async def read(self, texts: Sequence[str], fields: Sequence[str] = (), whole: str = FIELD) -> list[InputImage]:
        """`fields`: the path of each text in the body, for errors; `whole`: that of all. Raises BadRequest that names the
        field, and what the reader's functions raise."""
        fetches = sum(self._is_fetched(text.strip()) for text in texts)
        if fetches:
            await self.admit_fetches(fetches)
        images: list[InputImage] = []
        total_bytes = 0
        for index, text in enumerate(texts):
            field = fields[index] if fields else f"{whole}[{index}]"
            data = await self._bytes(text.strip(), field)
            images.append(await self.work(partial(checked, data, field), len(data)))
            total_bytes += len(images[-1].data)
            if total_bytes > MAX_TOTAL_BYTES:
                raise BadRequest(
                    f"{whole} has more than {MAX_TOTAL_BYTES // 2**20} MB in total; send smaller or fewer images.",
                    field=whole,
                )
        return images

    async def _bytes(self, text: str, field: str) -> bytes:
        name = self._stored_name(text)
        if name is not None:
            try:
                return await self.read_stored(name)
            except NotFound:
                raise _error(
                    field, "is not the name of a stored image, which may have expired; send base64 data"
                ) from None
        scheme = _SCHEME.match(text)
        if scheme is None:
            return await self.work(partial(decoded, text, field, other_forms=_OTHER_FORMS))
        match scheme[1].lower():
            case "data":
                return await self.work(partial(decoded, text, field))
            case "https":
                return await self.fetch(text, field)
            case "http":
                raise _error(field, "is an http URL, which is not fetched; send an https URL")
            case _:
                raise _error(field, f"must be {_FORMS}; nothing else is fetched")

    def _stored_name(self, text: str) -> str | None:
        """The image's name, if `text` is a name or the URL of a stored image."""
        name = text.rpartition("/")[2]
        if not is_name(name):
            return None
        return name if text in (name, image_url(name, self.base_url)) else None

    def _is_fetched(self, text: str) -> bool:
        scheme = _SCHEME.match(text)
        return scheme is not None and scheme[1].lower() == "https" and self._stored_name(text) is None


def _error(field: str, why: str) -> BadRequest:
    return BadRequest(f"{field} {why}.", field=field)
