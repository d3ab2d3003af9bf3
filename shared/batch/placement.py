"""Where the media of a prompt go: at its tokens, or before its text. Pure.

the prompt has tokens      each <audio>, <video>, <image>, <pdf> takes the next file of its kind; files that are left follow
                           at the end: audio, video, image, pdf; a token for which no file is left is removed, with a warning
it has none                the media come first: video, audio, image, pdf; then the text
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")

_TOKEN = re.compile(r"<(audio|video|image|pdf)>")
ALWAYS_TOKENS = frozenset({"audio", "video"})
"""The others are tokens only where an item has such files: prompts have always had `<image>` as text."""
_BEFORE_TEXT = ("video", "audio", "image", "pdf")
_AT_THE_END = ("audio", "video", "image", "pdf")


class Placed(NamedTuple):
    parts: tuple[object, ...]
    """Texts, and the media of `place`'s argument."""
    warnings: tuple[str, ...]


def place(prompt: str, media: Mapping[str, Sequence[T]]) -> Placed:
    """`media` has the files of each kind in their order. Every file is in the parts exactly once."""
    pieces = _TOKEN.split(prompt)
    taken = dict.fromkeys(media, 0)
    parts: list[object] = []
    text, tokens, missing = pieces[0], 0, dict.fromkeys(_AT_THE_END, 0)
    for kind, following in zip(pieces[1::2], pieces[2::2], strict=True):
        files = media.get(kind, ())
        if not files and kind not in ALWAYS_TOKENS:
            text += f"<{kind}>{following}"
            continue
        tokens += 1
        if taken.get(kind, 0) < len(files):
            parts += [text, files[taken[kind]]]
            taken[kind] += 1
            text = following
        else:
            missing[kind] += 1
            text += following
    parts.append(text)
    if tokens:
        parts += [file for kind in _AT_THE_END for file in media.get(kind, ())[taken.get(kind, 0) :]]
    else:
        parts = [*(file for kind in _BEFORE_TEXT for file in media.get(kind, ())), *parts]
    warnings = tuple(
        f"{count} {'token' if count == 1 else 'tokens'} <{kind}> had no file and {'was' if count == 1 else 'were'} removed."
        for kind, count in missing.items()
        if count
    )
    return Placed(tuple(part for part in parts if not isinstance(part, str) or part.strip()), warnings)
