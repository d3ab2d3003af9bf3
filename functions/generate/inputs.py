"""Where the input images of a request come from: the bucket, and the web."""

from __future__ import annotations

from functools import partial

from shared.clock import elapsed_s
from shared.errors import UpstreamTimeout
from shared.http.call import Call
from shared.images.inputs import InputReader
from shared.media.input_image import MAX_BYTES


def input_reader(call: Call) -> InputReader:
    async def admit_fetches(count: int) -> None:
        await call.services.fetch_rate.admit(call.holders, count)

    return InputReader(call.base_url, partial(_stored, call), partial(_fetched, call), admit_fetches, call.work)


async def _stored(call: Call, name: str) -> bytes:
    data = (await call.services.media.read(name)).data
    call.claim.grow(len(data))
    return data


async def _fetched(call: Call, url: str, field: str) -> bytes:
    # Only requests with a URL load these.
    from shared.media.fetch import TIMEOUT_S, Fetcher
    from shared.media.look_ups import Asker

    left_s = call.deadline_s - elapsed_s()
    if left_s <= 0:
        raise UpstreamTimeout("The request's deadline passed before its input images were fetched.")
    # The keys that a stranger may make up share one network: look-ups count for that.
    resolve = partial(call.services.look_ups.resolve, Asker(call.holders[-1], call.is_stranger))
    return await Fetcher(resolve, hold=call.claim.grow).fetch(url, field, MAX_BYTES, min(left_s, TIMEOUT_S))
