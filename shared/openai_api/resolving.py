"""Fetches what a chat completion's body names and does not contain: stored files, images at addresses, thought signatures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from shared.generation import JsonObject
from shared.http.call import Call
from shared.openai_api.signatures import find_signatures
from shared.openai_format.translation import References, Resolved, check_size

MAX_NAMED_BYTES = 96 * 1024 * 1024
"""Of files and images in base64: Gemini takes 100 MB a request (ai.google.dev/gemini-api/docs/files)."""


async def resolved(call: Call, names: References) -> Resolved:
    """Raises NotFound and BadRequest that name the field or the file, RateLimited, StorageUnavailable, LedgerUnavailable,
    QueueFull, UpstreamTimeout."""
    files: Mapping[str, JsonObject] = {}
    if names.file_ids:
        # Only requests with a stored file load this.
        from shared.openai_api.files import file_parts

        files = await file_parts(call, list(names.file_ids))
    urls = await _images(call, names.urls) if names.urls else {}
    found = Resolved(files, urls)
    if files or urls:
        # The encoded request will have these bytes, so they are counted before it is built.
        limit_bytes = min(MAX_NAMED_BYTES, call.services.byte_budget.large_bytes // 2)
        call.claim.cover(check_size(names, found, limit_bytes))
    signatures = await find_signatures(call, names.call_ids) if names.call_ids else {}
    return found._replace(signatures=signatures)


async def _images(call: Call, urls: Mapping[str, str]) -> Mapping[str, JsonObject]:
    """`urls`: address -> the field that names it. An address of an image stored here is read from the storage."""
    from shared.http.inputs import admit_fetches, fetched_image, stored_image
    from shared.images.inputs import InputReader
    from shared.media.input_image import inline_part

    reader = InputReader(
        call.base_url,
        partial(stored_image, call),
        partial(fetched_image, call),
        partial(admit_fetches, call),
        call.work,
    )
    images = await reader.read(list(urls), list(urls.values()), "messages")
    parts = await asyncio.gather(*(call.work(partial(inline_part, image), len(image.data)) for image in images))
    return dict(zip(urls, parts, strict=True))
