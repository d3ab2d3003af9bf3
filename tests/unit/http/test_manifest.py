"""endpoint.json: what it may say, and which path belongs to whom."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.http.manifest import Manifest, ManifestError, load_all, owners

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
    ("change", "expected"),
    [
        ({"path": "/x"}, "path"),
        ({"description": ""}, "description"),
        ({"paths": {}}, "paths"),
        ({"paths": {"thing": ["GET"]}}, "paths"),
        ({"paths": {"/a/*/b": ["GET"]}}, "paths"),
        ({"paths": {"/thing/": ["GET"]}}, "paths"),
        ({"paths": {"/thing": ["FETCH"]}}, "GET, POST"),
        ({"paths": {"/thing": []}}, "paths"),
        (
            {"paths": {"/thing/{id}x": ["GET"]}},
            "'/thing/{id}x' in paths or also must have each parameter as a whole segment",
        ),
        ({"paths": {"/a/{x}": ["GET"], "/a/{y}": ["POST"]}}, "/a/{x} and /a/{y} match the same paths"),
        ({"also": ["/chat"]}, "also"),
        ({"also": {"/chat": ["FETCH"]}}, "GET, POST"),
        ({"also": {"/chat/": ["POST"]}}, "empty segment"),
        ({"also": {"/thing": ["GET"]}}, "/thing and /thing match the same paths"),
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
        ({"public_paths": "/thing"}, "public_paths must be a list of patterns"),
        ({"public_paths": ["/other"]}, "public_paths has /other, which neither paths nor also has"),
    ],
)
def test_an_invalid_field_is_named_with_its_file(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ManifestError) as caught:
        Manifest.load(write(tmp_path, "thing", {**GOOD, **change}))
    assert "thing/endpoint.json" in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_manifest_must_be_a_json_object(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ManifestError, match="JSON"):
        Manifest.load(write(tmp_path, "thing", content))


def test_default_function_stores_nothing(tmp_path: Path) -> None:
    assert Manifest.load(write(tmp_path, "thing", GOOD)).storage == "none"
    assert Manifest.load(write(tmp_path, "images", {**GOOD, "storage": "write"})).storage == "write"


def test_store_is_write_if_left_out(tmp_path: Path) -> None:
    assert Manifest.load(write(tmp_path, "thing", GOOD)).store == "write"
    assert Manifest.load(write(tmp_path, "page", {**GOOD, "access": "public", "store": "read"})).store == "read"


def test_rate_limit_of_callers_is_optional(tmp_path: Path) -> None:
    assert Manifest.load(write(tmp_path, "thing", GOOD)).rated == "anonymous"
    assert Manifest.load(write(tmp_path, "images", {**GOOD, "rated": "everybody"})).rated == "everybody"


def test_a_path_may_be_public_in_a_function_that_is_not(tmp_path: Path) -> None:
    manifest = Manifest.load(write(tmp_path, "thing", {**GOOD, "public_paths": ["/thing"]}))
    assert (manifest.access_of("/thing"), manifest.access_of("/things/*")) == ("public", "credential")


def test_a_wildcard_below_a_template_is_a_functions_own(tmp_path: Path) -> None:
    """The longest literal prefix decides, locally and in the URL map."""
    write(tmp_path, "thing", {**GOOD, "paths": {"/a/{id}/c": ["POST"]}})
    write(tmp_path, "another", {**GOOD, "paths": {"/a/v1/*": ["POST"]}})
    elsewhere = owners(load_all(tmp_path))
    assert (elsewhere.owner("/a/v1/c"), elsewhere.owner("/a/x/c")) == ("another", "thing")


def test_two_functions_cannot_have_one_path(tmp_path: Path) -> None:
    write(tmp_path, "thing", GOOD)
    write(tmp_path, "another", GOOD)
    with pytest.raises(ManifestError, match="another and thing both have the path /thing"):
        load_all(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/a/{x}/c", "/a/b/{y}", "match the same paths"),
        ("/a/{x}/b", "/a/{x}/c", "both begin with /a/,"),
        ("/a/{x}/b", "/a/*", "both begin with /a/,"),
    ],
)
def test_two_functions_need_different_prefixes(tmp_path: Path, one: str, other: str, expected: str) -> None:
    """The URL map compares the literal prefix alone. In one function the same pair may be fine."""
    write(tmp_path, "one", {**GOOD, "paths": {one: ["GET"]}})
    write(tmp_path, "other", {**GOOD, "paths": {other: ["GET"]}})
    with pytest.raises(ManifestError) as caught:
        load_all(tmp_path)
    assert expected in str(caught.value)


class TestAlso:
    def test_it_is_optional(self, tmp_path: Path) -> None:
        assert Manifest.load(write(tmp_path, "thing", GOOD)).also == {}

    def test_the_owner_stays_the_owner(self, tmp_path: Path) -> None:
        """A function's own host answers `paths` and `also`; the URL map and the local server go by `paths`."""
        write(tmp_path, "chat", {**GOOD, "paths": {"/chat": ["POST"], "/v1/*": ["GET"]}})
        also = {"/chat": ["POST"], "/v1/files/{id}": ["GET"], "/v1/*": ["GET"]}
        write(tmp_path, "sessions", {**GOOD, "paths": {"/sessions": ["GET"]}, "also": also})
        manifests = load_all(tmp_path)
        assert manifests[1].patterns == {
            path: tuple(methods) for path, methods in {"/sessions": ["GET"], **also}.items()
        }
        assert [owners(manifests).owner(path) for path in ("/chat", "/v1/files/f1", "/sessions")] == [
            "chat",
            "chat",
            "sessions",
        ]

    def test_a_path_without_an_owner_is_an_error(self, tmp_path: Path) -> None:
        """It would answer on this function's own host, and neither locally nor under the domain."""
        write(tmp_path, "thing", {**GOOD, "also": {"/chta": ["POST"]}})
        with pytest.raises(ManifestError, match="thing has /chta in also, which no other function has in paths"):
            load_all(tmp_path)

    def test_two_functions_may_share_it(self, tmp_path: Path) -> None:
        write(tmp_path, "chat", {**GOOD, "paths": {"/chat": ["POST"]}})
        for name in ("one", "two"):
            write(tmp_path, name, {**GOOD, "paths": {f"/{name}": ["POST"]}, "also": {"/chat": ["POST"]}})
        assert [manifest.name for manifest in load_all(tmp_path)] == ["chat", "one", "two"]


def test_every_function_has_manifest_and_entry_point() -> None:
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
