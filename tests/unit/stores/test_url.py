"""Which store a URL names, and that its libraries are all that is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.stores.memory import MemoryStore
from shared.stores.sqlite import SqliteStore
from shared.stores.url import ALLOWED, StoreLocation, open_store, parse_store_url

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


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("memory://", StoreLocation("memory")),
        ("sqlite:///x.db", StoreLocation("sqlite", "x.db")),
        ("sqlite:////var/x.db", StoreLocation("sqlite", "/var/x.db")),
        ("firestore://my-project/(default)", StoreLocation("firestore", "my-project", "(default)")),
        (
            "firestore://example.com:my-project/ledger-2",
            StoreLocation("firestore", "example.com:my-project", "ledger-2"),
        ),
    ],
)
def test_valid_urls(url: str, location: StoreLocation) -> None:
    assert parse_store_url(url) == location


INVALID = {
    ALLOWED: "memory memory:///x sqlite:// sqlite://x redis://h:1/0 firestore:/p/d",
    "the path of a file": "sqlite:/// sqlite://// sqlite:///folder/",
    "a project id and a database id": """firestore:// firestore://p firestore://p/ firestore://p/d/e firestore:///d
        firestore://P/(default) firestore://p/(other) firestore://my_project/(default)""",
}


@pytest.mark.parametrize(
    ("rule", "url"), [(ALLOWED, ""), *((rule, url) for rule, urls in INVALID.items() for url in urls.split())]
)
def test_invalid_urls(rule: str, url: str) -> None:
    """Parsing and opening reject the same URLs, so that no URL passes the settings and fails at the first request."""
    for read in (parse_store_url, open_store):
        with pytest.raises(ValueError, match=rule):
            read(url)


def test_an_error_repeats_only_the_scheme() -> None:
    """The rest of a URL may contain a password."""
    with pytest.raises(ValueError, match="not start with 'redis'") as caught:
        parse_store_url("redis://user:hunter2@host/0")
    assert "hunter2" not in str(caught.value)


def test_parsing_imports_no_store() -> None:
    script = """import sys
from shared.stores.url import parse_store_url
for url in ("memory://", "sqlite:///x.db", "firestore://p/(default)"):
    parse_store_url(url)
print(*sys.modules)"""
    modules = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"sqlite3", "grpc", "google.auth"} & set(modules.stdout.split())


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
