"""The answer of an image model: an image of the prompt, or one of Google's answers without an image."""

from __future__ import annotations

import base64
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import tokens
from .answers import Answer, Candidate, Image, prompt_of
from .drawing import draw
from .faults import without_directives
from .image_sizes import output_tokens, pixels
from .models import IMAGE, Model

WITHOUT_IMAGE = frozenset({"image_safety", "no_image", "text_only"})
ODD_IMAGES = frozenset({"image_base64url", "image_cut", "image_html"})
_THOUGHTS = 240
# Maximum of prompts whose number of drawings is remembered; the oldest is dropped first.
_PROMPTS_KEPT = 10_000
_REFUSED = "I cannot draw that, says the offline Gemini, since the prompt asked it to answer with text only."
_PAGE = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
_BLOCKED = (
    "Unable to show the generated image. The model could not generate the image based on the prompt provided. "
    "You will not be charged for blocked images. Try rephrasing the prompt."
)


def image_count(request: Mapping[str, Any], model: Model) -> int:
    """How many images the request will generate: an image model returns one, unless the request asks only for text."""
    modalities = request.get("generationConfig", {}).get("responseModalities", ())
    return int(model.kind == IMAGE and (not modalities or "IMAGE" in modalities))


class Seeds:
    """The seeds of images: the prompt, the images sent with it, and how often the same request was made before. So repeated
    requests get different images, as from Gemini, and the first, second, ... image is the same in every process. A request
    with a `seed` gets the same image each time."""

    def __init__(self) -> None:
        self._drawn: OrderedDict[int, int] = OrderedDict()

    def next(self, request: Mapping[str, Any]) -> int:
        named = request.get("generationConfig", {}).get("seed")
        seed = zlib.crc32(prompt_of(request).encode(), (named or 0) & 0xFFFFFFFF)
        for part in request["contents"][-1]["parts"]:
            seed = zlib.crc32(part.get("inlineData", {}).get("data", "").encode(), seed)
        before = 0 if named is not None else self._before(seed)
        return zlib.crc32(str(before).encode(), seed) if before else seed

    def clear(self) -> None:
        """Forget how often each prompt was drawn."""
        self._drawn.clear()

    def _before(self, seed: int) -> int:
        before = self._drawn.pop(seed, 0)
        self._drawn[seed] = before + 1
        if len(self._drawn) > _PROMPTS_KEPT:
            self._drawn.popitem(last=False)
        return before


def answer(request: Mapping[str, Any], model: Model, prompt_tokens: Mapping[str, int], seed: int) -> Answer:
    """One image of the requested size."""
    config = request.get("generationConfig", {})
    wanted = config.get("imageConfig", {})
    text = without_directives(prompt_of(request))
    width, height = pixels(model.id, wanted)
    data, mime_type = draw(text, seed, width, height, wanted.get("outputMimeType") or "image/png")
    image = Image(data, mime_type, output_tokens(model.id, wanted))
    modalities = config.get("responseModalities") or ("TEXT", "IMAGE")
    said = f"An image of {width} x {height} pixels from the offline Gemini." if "TEXT" in modalities else ""
    thinks = not model.id.startswith("gemini-2.5")
    signature = base64.b64encode(seed.to_bytes(4, "big") * 6).decode() if thinks else ""
    count = tokens.count_text(said) + image.tokens
    candidate = Candidate("STOP", said, tokens=count, signature=signature, image=image)
    return Answer(prompt_tokens, [candidate], _THOUGHTS if thinks else 0)


def odd(answer: Answer, kind: str) -> Answer:
    """The same answer with its image in another alphabet, cut in half, or replaced by a page. `kind` is one of ODD_IMAGES."""
    (candidate,) = answer.candidates
    image = candidate.image
    if image is None:
        return answer
    if kind == "image_base64url":
        image = replace(image, base64url=True)
    else:
        data = _PAGE if kind == "image_html" else image.data[: len(image.data) // 2]
        image = replace(image, data=data)
    return replace(answer, candidates=[replace(candidate, image=image)])


def without_image(request: Mapping[str, Any], prompt_tokens: Mapping[str, int], kind: str) -> Answer:
    """`kind` is one of WITHOUT_IMAGE. As in reports of real answers, the content has only a role."""
    if kind == "text_only":
        return Answer(prompt_tokens, [Candidate("STOP", _REFUSED, tokens=tokens.count_text(_REFUSED))], _THOUGHTS)
    if kind == "no_image":
        return Answer(prompt_tokens, [Candidate("NO_IMAGE")], _THOUGHTS)
    return Answer(prompt_tokens, [Candidate("IMAGE_SAFETY", finish_message=_BLOCKED)], _THOUGHTS)
