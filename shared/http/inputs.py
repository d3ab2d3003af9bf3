"""Where the images that a request names come from: the storage, and the web."""

from __future__ import annotations

from functools import partial

from shared.clock import elapsed_s
from shared.errors import UpstreamTimeout
from shared.http.call import Call
from shared.media.input_image import MAX_BYTES


async def stored_image(call: Call, name: str) -> bytes:
    """Raises NotFound, StorageUnavailable, QueueFull."""
    data: bytes = (await call.services.media.read(name)).data
    call.claim.grow(len(data))
    return data


async def fetched_image(call: Call, url: str, field: str) -> bytes:
    """The bytes at an https URL, sent in `field`. Raises BadRequest, UpstreamTimeout, QueueFull."""
    # Only requests with a URL load these.
    from shared.media.fetch import TIMEOUT_S, Fetcher
    from shared.media.look_ups import Asker

    left_s = call.deadline_s - elapsed_s()
    if left_s <= 0:
        raise UpstreamTimeout("The request's deadline passed before its images were fetched.")
    # The keys that a stranger may make up share one network: look-ups count for that.
    resolve = partial(call.services.look_ups.resolve, Asker(call.holders[-1], call.is_stranger))
    return await Fetcher(resolve, hold=call.claim.grow).fetch(url, field, MAX_BYTES, min(left_s, TIMEOUT_S))


async def admit_fetches(call: Call, count: int) -> None:
    """Counts so many fetches in the caller's rate limit. Raises RateLimited, LedgerUnavailable."""
    await call.services.fetch_rate.admit(call.holders, count)
