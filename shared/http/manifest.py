"""What endpoint.json says of a function: its paths, who may call it, and what it is deployed with.

The file lies in the function's folder, and the folder's name is the function's. Everything that needs a list of
functions (the local server, the bundle, the specification, Terraform, the URL map) reads these files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

FILE_NAME = "endpoint.json"
_GEMINI_KEY = "GEMINI_API_KEY"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
Access = Literal["public", "credential", "anonymous"]
"""public: none is read. credential: always needed. anonymous: not needed where ALLOW_ANONYMOUS names the function."""
Storage = Literal["none", "read", "write"]
"""What it does with stored images and files; `none` where nothing is said."""
Store = Literal["none", "read", "write"]
"""What the function does with documents of the store (ledger, rates), and so what its account may do. `write` if left out."""
Rated = Literal["anonymous", "everybody"]
"""Whose requests RATE_LIMIT_PER_MINUTE limits: every anonymous caller's, wherever one is served; here also all others'."""


class ManifestError(Exception):
    """An endpoint.json that is wrong: one sentence for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Manifest:
    name: str
    description: str
    paths: Mapping[str, tuple[str, ...]]
    """Pattern -> methods. A pattern is a path, or a path and `/*` for everything below it."""
    access: Access
    memory_mb: int
    cpu: float
    concurrency: int
    """Requests that one instance serves at once."""
    timeout_s: int
    secrets: tuple[str, ...]
    """Environment variables that Secret Manager fills."""
    storage: Storage = "none"
    store: Store = "write"
    rated: Rated = "anonymous"

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Raises ManifestError."""
        file = folder / FILE_NAME
        try:
            given = orjson.loads(file.read_bytes())
        except OSError as error:
            raise ManifestError(f"{file} cannot be read: {error.strerror}.") from error
        except orjson.JSONDecodeError as error:
            raise ManifestError(f"{file} is not JSON: {error.msg} at character {error.pos}.") from error
        if not isinstance(given, dict):
            raise ManifestError(f"{file} must be a JSON object.")
        return cls(folder.name, **_read(file, given))

    def match(self, path: str, *, joined: bool = True) -> str | None:
        """The pattern that `path` falls under, the longest if several. A slash at the end makes no difference, and, where
        `joined`, neither do repeated ones: a client joins a base URL that ends with a slash and a path."""
        path = (single_slashes(path) if joined else path).rstrip("/") or "/"
        if path in self.paths:
            return path
        below = [pattern for pattern in self.paths if pattern.endswith("/*") and path.startswith(pattern[:-1])]
        return max(below, key=len, default=None)


def canonical(path: str, pattern: str) -> str:
    """`path` with single slashes, except in what the `*` of its pattern stands for: a name is kept as it is, and
    `/image//<name>` is none. A function whose `*` stands for a path of an API applies `single_slashes` to it."""
    if not pattern.endswith("/*"):
        return single_slashes(path)
    before = pattern.removesuffix("/*")
    found = re.match(re.escape(before).replace("/", "/+"), path)
    return before + path[found.end() :] if found else path


def slashes_as_sent(scope: Mapping[str, Any]) -> bool:
    """Whether all slashes of an ASGI request's path are separators: none was percent-encoded."""
    return b"%2f" not in (scope.get("raw_path") or b"").lower()


def single_slashes(path: str) -> str:
    return re.sub("//+", "/", path) if "//" in path else path


def load_all(functions: Path) -> list[Manifest]:
    """Every folder of `functions` that has an endpoint.json, by name. Raises ManifestError."""
    manifests = [Manifest.load(file.parent) for file in sorted(functions.glob(f"*/{FILE_NAME}"))]
    owner: dict[str, str] = {}
    for manifest in manifests:
        for pattern in manifest.paths:
            if owner.setdefault(pattern, manifest.name) != manifest.name:
                raise ManifestError(f"{manifest.name} and {owner[pattern]} both have the path {pattern}.")
    return manifests


def _read(file: Path, given: dict[str, Any]) -> dict[str, Any]:
    if unknown := sorted(given.keys() - _FIELDS.keys()):
        raise ManifestError(f"{file} has {', '.join(unknown)}; it may have {', '.join(_FIELDS)}.")
    result: dict[str, Any] = {}
    for name, (reader, allowed) in _FIELDS.items():
        value = reader(given.get(name))
        if value is None:
            raise ManifestError(f"{file}: {name} must be {allowed}.")
        result[name] = value
    if result["access"] == "public" and _GEMINI_KEY in result["secrets"]:
        raise ManifestError(
            f"{file}: a public function, which anybody may call, must not have {_GEMINI_KEY} in secrets."
        )
    if result["access"] == "public" and "store" not in given:
        raise ManifestError(f"{file}: a public function must set store: read, or write if it changes documents.")
    return result


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _access(value: object) -> str | None:
    return value if isinstance(value, str) and value in get_args(Access) else None


def _storage(value: object) -> str | None:
    if value is None:
        return "none"
    return value if isinstance(value, str) and value in get_args(Storage) else None


def _store(value: object) -> str | None:
    if value is None:
        return "write"
    return value if isinstance(value, str) and value in get_args(Store) else None


def _rated(value: object) -> str | None:
    if value is None:
        return "anonymous"
    return value if isinstance(value, str) and value in get_args(Rated) else None


def _paths(value: object) -> Mapping[str, tuple[str, ...]] | None:
    if not isinstance(value, dict) or not value:
        return None
    for pattern, methods in value.items():
        path = pattern.removesuffix("/*")
        if not pattern.startswith("/") or "*" in path or (path.endswith("/") and pattern != "/"):
            return None
        if not isinstance(methods, list) or not methods or any(method not in METHODS for method in methods):
            return None
    return {pattern: tuple(methods) for pattern, methods in value.items()}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _cpu(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _names(value: object) -> tuple[str, ...] | None:
    return tuple(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


_FIELDS: dict[str, tuple[Any, str]] = {
    "description": (_text, "one sentence"),
    "paths": (_paths, f"an object of paths and their methods ({', '.join(METHODS)}), like {{'/chat': ['POST']}}"),
    "access": (_access, f"one of {', '.join(get_args(Access))}"),
    "memory_mb": (_count, "a whole number over 0"),
    "cpu": (_cpu, "a number over 0"),
    "concurrency": (_count, "a whole number over 0"),
    "timeout_s": (_count, "a whole number over 0"),
    "secrets": (_names, "a list of variables' names"),
    "storage": (_storage, f"one of {', '.join(get_args(Storage))}, or left out"),
    "store": (_store, f"one of {', '.join(get_args(Store))}, or left out"),
    "rated": (_rated, f"one of {', '.join(get_args(Rated))}, or left out"),
}
