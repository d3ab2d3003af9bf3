"""The collections of the store that the code uses, read from its sources. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from shared.ledger import state

_START = re.compile(r"([a-z][a-z_]*)/")
_MAKES_KEYS = re.compile(r"\bshared\.stores\b|^def \w+_key\(", re.MULTILINE)
_NOT_COLLECTIONS = frozenset({"application", "audio", "image", "models", "projects", "text", "video"})
"""The first parts of other strings with a slash: media types, and Google's names."""


def sources(root: Path) -> Mapping[str, str]:
    """Every deployed module that may use a store, without the stores themselves."""
    skipped = {"stores", "emulator", "parallel"}
    files = [file for folder in ("shared", "functions") for file in (root / folder).rglob("*.py")]
    return {str(file.relative_to(root)): file.read_text() for file in files if not skipped & set(file.parts)}


def collections_in(modules: Mapping[str, str]) -> set[str]:
    """Collections of the keys (`collection/id`) that modules make which import the store's port or name their keys, and the
    ledger's."""
    found = {state.COLLECTION.rstrip("/")}
    for text in modules.values():
        if _MAKES_KEYS.search(text):
            found |= {match[1] for one in _strings(ast.parse(text)) if (match := _START.match(one))}
    return found - _NOT_COLLECTIONS


def _strings(tree: ast.AST) -> Iterator[str]:
    """String constants, including the constant parts of f-strings. Docstrings have spaces, keys have none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            yield node.value
