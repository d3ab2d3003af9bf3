"""Which store a URL names. Opening a store imports its libraries (Firestore's take 0.2 s); parsing its URL imports none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from shared.stores.port import Store

ALLOWED = "memory://, sqlite:///path or firestore://project/database"
_SQLITE = "sqlite:///"
_FIRESTORE = re.compile(r"firestore://([a-z0-9][a-z0-9:.-]*)/(\(default\)|[a-z0-9][a-z0-9-]*)")


@dataclass(frozen=True, slots=True)
class StoreLocation:
    kind: Literal["memory", "sqlite", "firestore"]
    place: str = ""
    """SQLite: the path of the file. Firestore: the project's id."""
    database: str = ""
    """Firestore only."""


def parse_store_url(url: str) -> StoreLocation:
    """Parses `memory://`, `sqlite:///path` (relative; an absolute path makes four slashes) or `firestore://project/database`.

    Raises ValueError with a sentence that says what is allowed. It repeats nothing of the URL but its scheme, because the
    rest may contain a password."""
    if url == "memory://":
        return StoreLocation("memory")
    if url.startswith(_SQLITE):
        path = url.removeprefix(_SQLITE)
        if not path or path.endswith("/"):
            raise ValueError("sqlite:/// needs the path of a file, like sqlite:///.local/ledger.db")
        return StoreLocation("sqlite", path)
    if found := _FIRESTORE.fullmatch(url):
        return StoreLocation("firestore", *found.groups())
    scheme, separator, _ = url.partition("://")
    if scheme == "firestore":
        raise ValueError(
            "firestore://project/database needs a project id and a database id of lower-case letters, digits and hyphens, "
            "like firestore://my-project/(default)"
        )
    raise ValueError(f"it must be {ALLOWED}" + (f", and not start with {scheme[:20]!r}" if separator else ""))


def open_store(url: str) -> Store:
    """Opens the store at `url` without connecting to it. Raises ValueError as `parse_store_url` does."""
    location = parse_store_url(url)
    if location.kind == "memory":
        from shared.stores.memory import MemoryStore

        return MemoryStore()
    if location.kind == "sqlite":
        from shared.stores.sqlite import SqliteStore

        return SqliteStore(location.place)
    from shared.stores.firestore import FirestoreStore

    return FirestoreStore(location.place, location.database)
