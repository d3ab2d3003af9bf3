"""Where the input images of a request come from: the bucket, and the web."""

from __future__ import annotations

from functools import partial

from shared.http.call import Call
from shared.http.inputs import admit_fetches, fetched_image, stored_image
from shared.images.inputs import InputReader


def input_reader(call: Call) -> InputReader:
    return InputReader(
        call.base_url,
        partial(stored_image, call),
        partial(fetched_image, call),
        partial(admit_fetches, call),
        call.work,
    )
