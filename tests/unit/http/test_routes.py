"""Which pattern a path matches, and which function it belongs to."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from shared.http.routes import Owners, Routes, ambiguous, as_template, pattern_fault, prefix_of

ROUTES = Routes(
    [
        "/thing",
        "/things/*",
        "/accounts",
        "/accounts/new",
        "/accounts/{id}",
        "/accounts/{id}/toggle",
        "/v1/*",
        "/v1/files/*",
        "/v1/files/new",
        "/v1/files/{id}/content",
    ]
)


def pattern(path: str, raw_path: str | None = None) -> str | None:
    found = ROUTES.match(path, (path if raw_path is None else raw_path).encode())
    return None if found is None else found.pattern


@pytest.mark.parametrize(
    ("path", "expected"),
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
        ("/accounts/a1", "/accounts/{id}"),
        ("/accounts/a1/", "/accounts/{id}"),
        ("/accounts//a1", "/accounts/{id}"),
        ("/accounts/a1/toggle", "/accounts/{id}/toggle"),
        ("/accounts/a1/other", None),
        ("/accounts/a1/toggle/x", None),
        ("/accounts/{id}", "/accounts/{id}"),
    ],
)
def test_a_path_matches_its_pattern(path: str, expected: str | None) -> None:
    assert pattern(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/accounts/new", "/accounts/new"),
        ("/accounts/newer", "/accounts/{id}"),
        ("/v1/files/new", "/v1/files/new"),
        ("/v1/files/f1/content", "/v1/files/{id}/content"),
        ("/v1/files/f1", "/v1/files/*"),
        ("/v1/models", "/v1/*"),
    ],
)
def test_precedence(path: str, expected: str) -> None:
    """Literal path, then template, then the longest wildcard."""
    assert pattern(path) == expected


@pytest.mark.parametrize("path", ["/accounts//toggle", "/accounts/", "/accounts//"])
def test_a_parameter_is_never_empty(path: str) -> None:
    assert pattern(path) in ("/accounts", "/accounts/{id}")
    found = ROUTES.match(path, path.encode())
    assert found is not None
    assert "" not in found.parameters.values()


@pytest.mark.parametrize(
    ("path", "raw_path"),
    [
        ("/accounts/..", "/accounts/.."),
        ("/accounts/..", "/accounts/%2e%2E"),
        ("/accounts/./toggle", "/accounts/./toggle"),
    ],
)
def test_a_parameter_is_never_a_dot_segment(path: str, raw_path: str) -> None:
    assert pattern(path, raw_path) is None


@pytest.mark.parametrize(
    ("raw_path", "value"),
    [
        ("/accounts/a%20b/toggle", "a b"),
        ("/accounts/a%2Fb/toggle", "a/b"),
        ("/accounts/%2f/toggle", "/"),
        ("/accounts/%2e%2e%2fx/toggle", "../x"),
        ("/accounts/%E2%82%AC/toggle", "€"),
        ("/accounts/a%252Fb/toggle", "a%2Fb"),
        ("//accounts//a%2F%2Fb//toggle/", "a//b"),
        ("/accounts/a1:verb/toggle", "a1:verb"),
    ],
)
def test_a_parameter_is_one_decoded_segment(raw_path: str, value: str) -> None:
    """The path is split before it is decoded, and decoded once."""
    found = ROUTES.match(unquote(raw_path), raw_path.encode())
    assert found is not None
    assert (found.pattern, found.parameters) == ("/accounts/{id}/toggle", {"id": value})


@pytest.mark.parametrize("raw_path", ["/accounts%2Fa1/toggle", "/accounts/a1%2Ftoggle/x", "/accounts/a%ZZ/toggle/x"])
def test_an_encoded_slash_is_not_a_separator(raw_path: str) -> None:
    assert pattern("/accounts/a1/toggle/x/y", raw_path) is None


def test_invalid_encoding_is_replaced() -> None:
    found = ROUTES.match("x", b"/accounts/%ff%2/toggle")
    assert found is not None
    assert found.parameters == {"id": "�%2"}


def test_a_server_may_omit_the_raw_path() -> None:
    found = ROUTES.match("/accounts/a1/toggle")
    assert found is not None
    assert found.parameters == {"id": "a1"}


@pytest.mark.parametrize(
    ("routes", "path", "expected"),
    [
        ("/thing", "//thing//", "/thing/"),
        ("/thing", "/thing", "/thing"),
        ("/things/*", "//things/a//b/", "/things/a//b/"),
        ("/things/*", "//things//a", "/things//a"),
        ("/v1beta/files/*", "/v1beta//files/a", "/v1beta/files/a"),
        ("/things/*", "/things/a//b", "/things/a//b"),
        ("/things/{id}/on", "//things//a//on", "/things/a/on"),
    ],
)
def test_the_canonical_path_keeps_what_the_wildcard_matches(routes: str, path: str, expected: str) -> None:
    found = Routes([routes]).match(path, path.encode())
    assert found is not None
    assert found.path == expected


@pytest.mark.parametrize("path", ["/", "/*", "/a", "/a/b", "/a/*", "/a/{id}", "/a/{a_1}/b/{b}", "/{id}", "/a.b:c"])
def test_valid_patterns(path: str) -> None:
    assert pattern_fault(path) is None


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("a", "begin with /"),
        ("", "begin with /"),
        ("/a/", "empty segment"),
        ("//", "empty segment"),
        ("/a//b", "empty segment"),
        ("/a//*", "empty segment"),
        ("/a*", "last segment"),
        ("/a/*/b", "last segment"),
        ("/a/**", "last segment"),
        ("/a/{id}:verb", "whole segment"),
        ("/a/{Id}", "whole segment"),
        ("/a/{}", "whole segment"),
        ("/a/{id", "whole segment"),
        ("/a/{id}/{id}", "one name"),
        ("/a/{id}/*", "both"),
    ],
)
def test_invalid_patterns(path: str, fault: str) -> None:
    assert fault in str(pattern_fault(path))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/a/{x}", "/a/{y}", True),
        ("/a/{x}", "/a/*", True),
        ("/a/{x}/c", "/a/b/{y}", True),
        ("/{x}/b", "/a/{y}", True),
        ("/{x}/b", "/a/*", True),
        ("/a/{x}", "/a/b", False),
        ("/a/{x}", "/a/{x}/b", False),
        ("/a/{x}/b", "/a/{x}/c", False),
        ("/a/{x}/b", "/a/*", False),
        ("/a/*", "/a/b/*", False),
        ("/a", "/a", True),
        ("/a", "/b", False),
    ],
)
def test_two_patterns_may_be_ambiguous(one: str, other: str, expected: bool) -> None:
    assert (ambiguous(one, other), ambiguous(other, one)) == (expected, expected)


@pytest.mark.parametrize(
    ("path", "prefix", "template"),
    [
        ("/a", "/a", "/a"),
        ("/a/*", "/a/", "/a/{path}"),
        ("/a/{id}/toggle", "/a/", "/a/{id}/toggle"),
        ("/*", "/", "/{path}"),
    ],
)
def test_prefix_and_openapi_notation(path: str, prefix: str, template: str) -> None:
    assert (prefix_of(path), as_template(path)) == (prefix, template)


class TestOwners:
    OWNERS = Owners(
        {
            "accounts": ["/api/accounts", "/api/accounts/{id}/toggle"],
            "console": ["/", "/api/*", "/api/accounts/export"],
            "image": ["/image/*"],
        }
    )

    @pytest.mark.parametrize(
        ("path", "owner"),
        [
            ("/", "console"),
            ("/api/accounts", "accounts"),
            ("/api/accounts/", "accounts"),
            ("/api/accounts/a1/toggle", "accounts"),
            ("/api/accounts/export", "console"),
            ("/api/accounts/a1/other", "accounts"),
            ("/api/models", "console"),
            ("//image//a", "image"),
            ("/image", None),
            ("/nowhere", None),
        ],
    )
    def test_the_longest_literal_prefix_decides(self, path: str, owner: str | None) -> None:
        """As in the URL map, which cannot see that `/api/accounts/a1/other` does not match accounts' template."""
        assert self.OWNERS.owner(path, path.encode()) == owner

    def test_an_encoded_slash_is_not_a_separator(self) -> None:
        assert self.OWNERS.owner("//api/accounts", b"/%2Fapi/accounts") is None
