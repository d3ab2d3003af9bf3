"""Which store a URL names. An adapter's libraries are imported only when its URL asks for it (Firestore's take 0.2 s)."""

from __future__ import annotations

import re

from shared.stores.port import Store

_FIRESTORE = re.compile(r"firestore://([a-z0-9][a-z0-9:.-]*)/(\(default\)|[a-z0-9][a-z0-9-]*)")


def open_store(url: str) -> Store:
    """`memory://`, `sqlite:///path` (relative; absolute with four slashes) or `firestore://project/database`.

    ValueError with a sentence when it is none of these. Nothing is connected to yet."""
    if url == "memory://":
        from shared.stores.memory import MemoryStore

        return MemoryStore()
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        from shared.stores.sqlite import SqliteStore

        return SqliteStore(url.removeprefix("sqlite:///"))
    if found := _FIRESTORE.fullmatch(url):
        from shared.stores.firestore import FirestoreStore

        return FirestoreStore(*found.groups())
    scheme = url.partition("://")[0][:20]
    raise ValueError(
        f"A store's URL is memory://, sqlite:///path or firestore://project/database (such as "
        f"firestore://my-project/(default)); this one begins with {scheme!r}."
    )
