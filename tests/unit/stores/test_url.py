"""Which store a URL names, and that its libraries are all that is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.stores.memory import MemoryStore
from shared.stores.sqlite import SqliteStore
from shared.stores.url import open_store

ROOT = Path(__file__).parents[3]


def test_a_memory_url_opens_a_store_of_this_process() -> None:
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize("absolute", [True, False])
async def test_a_sqlite_url_names_a_file_from_here_or_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(f"sqlite:///{tmp_path}/x.db" if absolute else "sqlite:///x.db")
    assert isinstance(store, SqliteStore)
    await store.read("a/b")
    await store.aclose()
    assert (tmp_path / "x.db").exists()


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("firestore://my-project/(default)", "projects/my-project/databases/(default)"),
        ("firestore://example.com:my-project/ledger-2", "projects/example.com:my-project/databases/ledger-2"),
    ],
)
async def test_a_firestore_url_names_a_project_and_a_database(
    url: str, database: str, firestore_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    store = open_store(url)
    assert store.kind == "firestore"
    assert vars(store)["_database"] == database
    await store.aclose()


REFUSED = """memory memory:///x sqlite:// sqlite:/// sqlite://x redis://h:1/0 firestore:// firestore://p firestore://p/
firestore://p/d/e firestore:///d firestore://P/(default) firestore://p/(other)"""


@pytest.mark.parametrize("url", ["", *REFUSED.split()])
def test_anything_else_is_refused_with_what_would_do(url: str) -> None:
    with pytest.raises(ValueError, match=r"memory://, sqlite:///path or firestore://project/database"):
        open_store(url)


def test_a_refused_url_is_not_repeated_since_it_may_hold_a_password() -> None:
    with pytest.raises(ValueError) as caught:
        open_store("redis://user:hunter2@host/0")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "imported", "not_imported"),
    [
        ("memory://", "", "sqlite3 grpc google.cloud.firestore_v1"),
        ("sqlite:///x.db", "sqlite3", "grpc google.cloud.firestore_v1 google.auth"),
        ("firestore://p/(default)", "grpc google.cloud.firestore_v1", "sqlite3 google.genai aiohttp"),
    ],
)
def test_only_the_named_store_is_imported(url: str, imported: str, not_imported: str) -> None:
    script = f"import sys\nfrom shared.stores.url import open_store\nopen_store({url!r})\nprint(*sys.modules)"
    command = [sys.executable, "-c", script]
    modules = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert set(imported.split()) <= set(modules)
    assert not set(not_imported.split()) & set(modules)
