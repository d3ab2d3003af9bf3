"""endpoint.json: the paths of a function, who may call it, and what it is deployed with.

    description   one sentence
    paths         pattern -> methods; routes.py has the three kinds of patterns
    also          like paths: paths of other functions that this function answers on its own host; left out: none
    access        public, credential or anonymous
    memory_mb     memory of one instance
    cpu           CPUs of one instance
    concurrency   maximum concurrent requests of one instance
    timeout_s     after this time the platform ends a request
    secrets       environment variables that Secret Manager fills
    storage       none, read or write: access to stored images and files; left out: none
    store         none, read or write: access to the store's documents (ledger, rates); left out: write; a public function must
                  name it
    rated         anonymous or everybody: whose requests RATE_LIMIT_PER_MINUTE limits; left out: anonymous
    public_paths  the patterns that are public whatever `access` is; left out: none. Where it depends on the request, main.py
                  says it to the edge (`endpoint(opened_by=...)`)

The file lies in the function's folder, and the folder's name is the function's. The local server, the bundle, the
specification, Terraform and the URL map read these files; nothing else has a list of the functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from shared.http.routes import Owners, ambiguous, is_literal, is_wildcard, pattern_fault, prefix_of

FILE_NAME = "endpoint.json"
_GEMINI_KEY = "GEMINI_API_KEY"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
Access = Literal["public", "credential", "anonymous"]
"""public: no credential is read. credential: always required. anonymous: not required if ALLOW_ANONYMOUS names the function."""
Storage = Literal["none", "read", "write"]
Store = Literal["none", "read", "write"]
"""What the function's account may do with documents of the store (ledger, rates)."""
Rated = Literal["anonymous", "everybody"]
"""RATE_LIMIT_PER_MINUTE limits the anonymous callers of every function; with `everybody`, all callers of this one."""


class ManifestError(Exception):
    """An invalid endpoint.json: what is wrong in which file, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Manifest:
    name: str
    description: str
    paths: Mapping[str, tuple[str, ...]]
    """Pattern -> methods."""
    access: Access
    memory_mb: int
    cpu: float
    concurrency: int
    timeout_s: int
    secrets: tuple[str, ...]
    storage: Storage = "none"
    store: Store = "write"
    rated: Rated = "anonymous"
    also: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Like `paths`: paths of other functions that this function also answers, on its own host. The URL map and the local server
    send them to their owners."""
    public_paths: tuple[str, ...] = ()

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

    @property
    def patterns(self) -> dict[str, tuple[str, ...]]:
        """Every pattern that the function's own host answers, with its methods."""
        return {**self.paths, **self.also}

    def access_of(self, pattern: str) -> Access:
        return "public" if pattern in self.public_paths else self.access


def load_all(functions: Path) -> list[Manifest]:
    """Every folder of `functions` that has an endpoint.json, by name. Raises ManifestError."""
    manifests = [Manifest.load(file.parent) for file in sorted(functions.glob(f"*/{FILE_NAME}"))]
    _check_paths(manifests)
    for manifest in manifests:
        _check_also(manifest, [other for other in manifests if other is not manifest])
    return manifests


def owners(manifests: Iterable[Manifest]) -> Owners:
    """By `paths` alone: `also` names paths of other functions."""
    return Owners({manifest.name: manifest.paths for manifest in manifests})


def _check_paths(manifests: Sequence[Manifest]) -> None:
    """No path may lead to two functions, neither on the local server nor through the URL map."""
    patterns = [(manifest.name, pattern) for manifest in manifests for pattern in manifest.paths]
    for (name, pattern), (another, other) in combinations(patterns, 2):
        if pattern == other:
            raise ManifestError(f"{name} and {another} both have the path {pattern}. Remove it from one of them.")
        # Everything below a longer path is a function's own: `/upload/v1/*` beside another function's `/upload/{id}/complete`.
        apart = (
            name != another and (is_wildcard(pattern) or is_wildcard(other)) and prefix_of(pattern) != prefix_of(other)
        )
        if ambiguous(pattern, other) and not apart:
            raise ManifestError(
                f"{pattern} of {name} and {other} of {another} match the same paths. Change one of them."
            )
        if (
            name != another
            and not is_literal(pattern)
            and not is_literal(other)
            and prefix_of(pattern) == prefix_of(other)
        ):
            raise ManifestError(
                f"{pattern} of {name} and {other} of {another} both begin with {prefix_of(pattern)}, and the URL map "
                "compares nothing else. Move both into one function, or change one of them."
            )


def _check_also(manifest: Manifest, others: Iterable[Manifest]) -> None:
    """A path in `also` must belong to another function. Without an owner it would be answered on this function's own host,
    but neither locally nor under the domain: it is misspelled, or belongs in `paths`."""
    elsewhere = owners(others)
    for pattern in manifest.also:
        # A template or a wildcard is looked up as if it were a path: only its prefix decides who owns it.
        if elsewhere.owner(pattern) is None:
            raise ManifestError(
                f"{manifest.name} has {pattern} in also, which no other function has in paths. Move it to paths, or correct it."
            )


def _read(file: Path, given: dict[str, Any]) -> dict[str, Any]:
    if unknown := sorted(given.keys() - _FIELDS.keys()):
        raise ManifestError(f"{file}: unknown field {', '.join(unknown)}. Allowed: {', '.join(_FIELDS)}.")
    result: dict[str, Any] = {}
    for name, (reader, allowed) in _FIELDS.items():
        value = reader(given.get(name))
        if value is None:
            raise ManifestError(f"{file}: {name} must be {allowed}.")
        result[name] = value
    patterns = [*result["paths"], *result["also"]]
    for pattern in patterns:
        if fault := pattern_fault(pattern):
            raise ManifestError(f"{file}: {pattern!r} in paths or also {fault}.")
    for pattern, other in combinations(patterns, 2):
        if ambiguous(pattern, other):
            raise ManifestError(f"{file}: {pattern} and {other} match the same paths. Remove or change one of them.")
    if unknown := sorted(set(result["public_paths"]) - set(patterns)):
        raise ManifestError(
            f"{file}: public_paths has {', '.join(unknown)}, which neither paths nor also has. Correct or remove it."
        )
    if result["access"] == "public" and _GEMINI_KEY in result["secrets"]:
        raise ManifestError(f"{file}: a public function must not have {_GEMINI_KEY} in secrets. Remove it.")
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
    return _also(value) if value else None


def _also(value: object) -> Mapping[str, tuple[str, ...]] | None:
    if value is None:
        return {}
    if not isinstance(value, dict):
        return None
    for methods in value.values():
        if not isinstance(methods, list) or not methods or any(method not in METHODS for method in methods):
            return None
    return {pattern: tuple(methods) for pattern, methods in value.items()}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _cpu(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def _names(value: object) -> tuple[str, ...] | None:
    return tuple(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _public_paths(value: object) -> tuple[str, ...] | None:
    return () if value is None else _names(value)


_PATHS = f"paths and their methods ({', '.join(METHODS)}), like {{'/chat': ['POST']}}"
_FIELDS: dict[str, tuple[Any, str]] = {
    "description": (_text, "one sentence"),
    "paths": (_paths, f"an object with {_PATHS}"),
    "also": (_also, f"an object with {_PATHS}, or left out"),
    "access": (_access, f"one of {', '.join(get_args(Access))}"),
    "memory_mb": (_count, "a whole number over 0"),
    "cpu": (_cpu, "a number over 0"),
    "concurrency": (_count, "a whole number over 0"),
    "timeout_s": (_count, "a whole number over 0"),
    "secrets": (_names, "a list of environment variables"),
    "storage": (_storage, f"one of {', '.join(get_args(Storage))}, or left out"),
    "store": (_store, f"one of {', '.join(get_args(Store))}, or left out"),
    "rated": (_rated, f"one of {', '.join(get_args(Rated))}, or left out"),
    "public_paths": (_public_paths, "a list of patterns, or left out"),
}
