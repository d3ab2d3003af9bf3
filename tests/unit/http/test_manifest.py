"""endpoint.json: what it may say, and which path belongs to whom."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.http.manifest import Manifest, ManifestError, canonical, load_all

FUNCTIONS = Path(__file__).parents[3] / "functions"
GOOD: dict[str, Any] = {
    "description": "Does a thing.",
    "paths": {"/thing": ["POST"], "/things/*": ["GET", "DELETE"]},
    "access": "credential",
    "memory_mb": 512,
    "cpu": 1,
    "concurrency": 80,
    "timeout_s": 60,
    "secrets": [],
}


def write(functions: Path, name: str, given: Any) -> Path:
    folder = functions / name
    folder.mkdir(parents=True)
    (folder / "endpoint.json").write_bytes(given if isinstance(given, bytes) else orjson.dumps(given))
    return folder


def test_the_folder_names_the_function(tmp_path: Path) -> None:
    manifest = Manifest.load(write(tmp_path, "thing", GOOD))
    assert (manifest.name, manifest.paths) == ("thing", {"/thing": ("POST",), "/things/*": ("GET", "DELETE")})


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/thing", "/thing"),
        ("/thing/", "/thing"),
        ("/things/a", "/things/*"),
        ("/things/a/b:verb", "/things/*"),
        ("/things", None),
        ("/thing/a", None),
        ("/", None),
        ("//thing", "/thing"),
        ("//thing//", "/thing"),
        ("/things//a", "/things/*"),
        ("//things/a//b", "/things/*"),
        ("//", None),
        ("", None),
    ],
)
def test_a_path_belongs_to_its_pattern(tmp_path: Path, path: str, pattern: str | None) -> None:
    assert Manifest.load(write(tmp_path, "thing", GOOD)).match(path) == pattern


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("//thing//", "/thing", "/thing/"),
        ("/thing", "/thing", "/thing"),
        ("//things/a//b/", "/things/*", "/things/a//b/"),
        ("//things//a", "/things/*", "/things//a"),
        ("/v1beta//files/a", "/v1beta/files/*", "/v1beta/files/a"),
        ("/things/a//b", "/things/*", "/things/a//b"),
    ],
)
def test_a_canonical_path_keeps_the_slashes_of_a_name(path: str, pattern: str, expected: str) -> None:
    assert canonical(path, pattern) == expected


def test_the_longest_pattern_wins(tmp_path: Path) -> None:
    paths = {"/v1/*": ["GET"], "/v1/files/*": ["GET"], "/v1/files/new": ["POST"]}
    manifest = Manifest.load(write(tmp_path, "thing", {**GOOD, "paths": paths}))
    assert [manifest.match(path) for path in ("/v1/x", "/v1/files/x", "/v1/files/new")] == list(paths)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"path": "/x"}, "path"),
        ({"description": ""}, "description"),
        ({"paths": {}}, "paths"),
        ({"paths": {"thing": ["GET"]}}, "paths"),
        ({"paths": {"/a/*/b": ["GET"]}}, "paths"),
        ({"paths": {"/thing/": ["GET"]}}, "paths"),
        ({"paths": {"/thing": ["FETCH"]}}, "GET, POST"),
        ({"paths": {"/thing": []}}, "paths"),
        ({"access": "everybody"}, "public, credential, anonymous"),
        ({"memory_mb": 0}, "memory_mb"),
        ({"cpu": True}, "cpu"),
        ({"timeout_s": "60"}, "timeout_s"),
        ({"secrets": "KEY"}, "secrets"),
        ({"storage": "all"}, "none, read, write"),
        ({"storage": True}, "storage"),
        ({"store": "all"}, "none, read, write"),
        ({"access": "public"}, "a public function must set store"),
        ({"rated": "admin"}, "anonymous, everybody"),
    ],
)
def test_what_is_wrong_is_told_with_the_files_name(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        Manifest.load(write(tmp_path, "thing", {**GOOD, **change}))
    assert "thing/endpoint.json" in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ManifestError, match="JSON"):
        Manifest.load(write(tmp_path, "thing", content))


def test_a_function_stores_nothing_unless_it_says_so(tmp_path: Path) -> None:
    assert Manifest.load(write(tmp_path, "thing", GOOD)).storage == "none"
    assert Manifest.load(write(tmp_path, "images", {**GOOD, "storage": "write"})).storage == "write"


def test_store_is_write_if_left_out(tmp_path: Path) -> None:
    assert Manifest.load(write(tmp_path, "thing", GOOD)).store == "write"
    assert Manifest.load(write(tmp_path, "page", {**GOOD, "access": "public", "store": "read"})).store == "read"


def test_whose_requests_are_rated_is_optional(tmp_path: Path) -> None:
    assert Manifest.load(write(tmp_path, "thing", GOOD)).rated == "anonymous"
    assert Manifest.load(write(tmp_path, "images", {**GOOD, "rated": "everybody"})).rated == "everybody"


def test_two_functions_cannot_have_one_path(tmp_path: Path) -> None:
    write(tmp_path, "thing", GOOD)
    write(tmp_path, "another", GOOD)
    with pytest.raises(ManifestError, match="thing and another both have the path /thing"):
        load_all(tmp_path)


def test_every_function_of_the_product_is_described_and_has_its_entry_point() -> None:
    manifests = load_all(FUNCTIONS)
    assert {"chat", "generate_text", "health"} <= {manifest.name for manifest in manifests}
    for manifest in manifests:
        source = (FUNCTIONS / manifest.name / "main.py").read_text()
        assert f"async def {manifest.name}(call: Call)" in source
        assert len(source.splitlines()) <= 40


def test_a_public_function_holds_no_gemini_key(tmp_path: Path) -> None:
    """Whoever finds a way to read its memory finds no key there."""
    given = {**GOOD, "access": "public", "secrets": ["ADMIN_API_KEY", "GEMINI_API_KEY"]}
    with pytest.raises(ManifestError, match="must not have GEMINI_API_KEY"):
        Manifest.load(write(tmp_path, "thing", given))


@pytest.mark.parametrize("manifest", load_all(FUNCTIONS), ids=lambda manifest: manifest.name)
def test_the_admin_key_is_only_where_a_path_asks_for_it(manifest: Manifest) -> None:
    models = importlib.import_module(f"functions.{manifest.name}.models")
    operations = getattr(models, "OPERATIONS", {})
    asked_for = manifest.access != "public" or any(operation.admin_only for operation in operations.values())
    assert ("ADMIN_API_KEY" in manifest.secrets) == asked_for
