"""Halves of characters: joined across parts and frames of an answer, or replaced by U+FFFD. Pure.

In JSON a character beyond U+FFFF may be escaped as two UTF-16 surrogates. A proxy that cuts a text by UTF-16 units puts
one half at the end of a frame and the other at the start of the next. Neither half alone is a character, and neither can
be sent on as UTF-8.
"""

from __future__ import annotations

from typing import Any

from shared.gemini import wire
from shared.generation import JsonObject

REPLACEMENT = "\ufffd"


class Halves:
    """The halves of one answer. A first half at the end of a text is kept for the next text of the same candidate."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, bool], str] = {}
        """By candidate, and by whether the text is a thought."""

    def repair(self, frame: JsonObject) -> JsonObject:
        """`frame`, changed in place, with whole characters only."""
        for candidate in wire.candidates(frame):
            content = candidate.get("content")
            parts = content.get("parts") if type(content) is dict else None
            for part in parts if type(parts) is list else ():
                if type(part) is dict and type(part.get("text")) is str:
                    self._join((wire.candidate_index(candidate), bool(part.get("thought"))), part)
        return _with_whole_characters(frame)

    def _join(self, where: tuple[int, bool], part: JsonObject) -> None:
        text = self._waiting.pop(where, "") + part["text"]
        if "\ud800" <= text[-1:] <= "\udbff":
            self._waiting[where] = text[-1]
            text = text[:-1]
        part["text"] = text

    def last_frame(self) -> JsonObject | None:
        """A frame with U+FFFD for each half whose other half never arrived; None if there is none."""
        if not self._waiting:
            return None
        candidates = []
        for index, thought in self._waiting:
            part: JsonObject = {"text": REPLACEMENT, **({"thought": True} if thought else {})}
            candidates.append({"content": {"parts": [part], "role": "model"}, "index": index})
        self._waiting.clear()
        return {"candidates": candidates}


def _with_whole_characters(tree: JsonObject) -> JsonObject:
    """Repairs every string and every name in `tree`, in place. Without recursion: an answer may be nested deeply."""
    todo: list[Any] = [tree]
    while todo:
        node = todo.pop()
        if type(node) is dict:
            if not all(map(_is_whole, node)):
                items = [(_whole(name), value) for name, value in node.items()]
                node.clear()
                node.update(items)
            entries: Any = node.items()
        else:
            entries = enumerate(node)
        for place, value in entries:
            if type(value) is str:
                if not _is_whole(value):
                    node[place] = _whole(value)
            elif type(value) is dict or type(value) is list:
                todo.append(value)
    return tree


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
