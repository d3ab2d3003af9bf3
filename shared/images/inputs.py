"""Images that a caller sends along, to be edited or as references: in base64, as a data URL, as the name or the address of
an image that is stored here, or at an https address, which is fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from shared.clock import elapsed_s
from shared.errors import BadRequest, NotFound, UpstreamTimeout
from shared.http.call import Call
from shared.images.serving import image_url
from shared.media.input_image import MAX_BYTES, InputImage, checked, decoded
from shared.media.names import is_name

FIELD = "input_images"
MAX_INPUTS = 14
"""What the best model takes (ai.google.dev/gemini-api/docs/image-generation)."""
MAX_TOTAL_BYTES = 20 * 1024 * 1024
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):")
_FORMS = "base64, a data URL, the name of a stored image, or an https URL"
_OTHER_FORMS = "; it may also be a data URL, the name of a stored image, or an https URL"


async def read_inputs(call: Call, sent: Sequence[str]) -> list[InputImage]:
    """Raises BadRequest that names the entry, RateLimited, LedgerUnavailable, StorageUnavailable, UpstreamTimeout, and
    QueueFull: what is fetched counts among the bytes that this process holds."""
    fetched = sum(_is_fetched(call, text.strip()) for text in sent)
    if fetched:
        await call.services.fetch_rate.admit(call.holders, fetched)
    images: list[InputImage] = []
    total_bytes = 0
    for number, text in enumerate(sent):
        where = f"{FIELD}[{number}]"
        image = await _image(call, text, where)
        total_bytes += len(image.data)
        if total_bytes > MAX_TOTAL_BYTES:
            raise BadRequest(
                f"{FIELD} has more than {MAX_TOTAL_BYTES // 2**20} MB in all; send smaller or fewer images.",
                field=FIELD,
            )
        images.append(image)
    return images


async def _image(call: Call, text: str, where: str) -> InputImage:
    text = text.strip()
    data = await _bytes(call, text, where)
    return await call.work(partial(checked, data, where), len(data))


async def _bytes(call: Call, text: str, where: str) -> bytes:
    name = _stored_name(call, text)
    if name is not None:
        try:
            data = (await call.services.media.read(name)).data
        except NotFound:
            raise _refuse(where, "is the name of no image that is stored here (any more)") from None
        call.claim.grow(len(data))
        return data
    scheme = _SCHEME.match(text)
    if scheme is None:
        return await call.work(partial(decoded, text, where, other_forms=_OTHER_FORMS))
    match scheme[1].lower():
        case "data":
            return await call.work(partial(decoded, text, where))
        case "https":
            return await _fetched(call, text, where)
        case "http":
            raise _refuse(where, "is an http URL; only https is fetched")
        case _:
            raise _refuse(where, f"must be {_FORMS}; nothing else is fetched")


def _stored_name(call: Call, text: str) -> str | None:
    """`text`, or its end if it is the very address that was given for the image."""
    name = text.rpartition("/")[2]
    if not is_name(name):
        return None
    return name if text in (name, image_url(name, call.settings, call.request)) else None


def _is_fetched(call: Call, text: str) -> bool:
    scheme = _SCHEME.match(text)
    return scheme is not None and scheme[1].lower() == "https" and _stored_name(call, text) is None


async def _fetched(call: Call, url: str, where: str) -> bytes:
    # Imported on demand: only requests with an address need it.
    from shared.media.fetch import TIMEOUT_S, Fetcher
    from shared.media.look_ups import Asker

    left_s = call.deadline_s - elapsed_s()
    if left_s <= 0:
        raise UpstreamTimeout("The time of this request was over before its input images were fetched.")
    # A stranger's network stands for all the keys that it may make up.
    resolve = partial(call.services.look_ups.resolve, Asker(call.holders[-1], call.is_stranger))
    return await Fetcher(resolve, hold=call.claim.grow).fetch(url, where, MAX_BYTES, min(left_s, TIMEOUT_S))


def _refuse(where: str, why: str) -> BadRequest:
    return BadRequest(f"{where} {why}.", field=where)
