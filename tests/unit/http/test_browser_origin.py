"""Which anonymous requests a server on somebody's own machine answers."""

from __future__ import annotations

import pytest

from shared.http.browser_origin import anonymous_fault
from shared.settings.settings import Settings
from tests.support.edge import ENVIRONMENT

Headers = dict[str, str]


def fault(headers: Headers, *, method: str = "POST", arrived_at: str | None = "127.0.0.1", **env: str) -> int | None:
    """The status of the error, if there is one."""
    settings = Settings.from_environment({**ENVIRONMENT, "GOOGLE_CLOUD_PROJECT": "p", **env})
    found = anonymous_fault(method, {"host": "127.0.0.1:5004", **headers}, settings, arrived_at)
    return found.status if found else None


class TestHost:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1", "127.0.0.1:5004", "127.8.9.10:1", "localhost", "LocalHost:5004", "localhost.:5004", "a.localhost:80",
            "[::1]:5004", "[::1]", "[::ffff:127.0.0.1]:5004", "0.0.0.0:5004", "[::]:5004",
        ],
    )  # fmt: skip
    def test_local_names_are_answered(self, host: str) -> None:
        assert fault({"host": host}) is None

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example", "evil.example:5004", "127.0.0.1.evil.example", "localhost.evil.example", "xlocalhost", "192.0.2.1",
            "evil@localhost", "localhost/evil.example", "localhost:x", "[::2]", "::1", "", "127.1", "2130706433",
        ],
    )  # fmt: skip
    def test_others_are_not(self, host: str) -> None:
        assert fault({"host": host}) == 403

    @pytest.mark.parametrize("arrived_at", ["192.0.2.7", "fe80::1%eth0", None, "/run/socket"])
    def test_from_elsewhere_any_host_is_answered(self, arrived_at: str | None) -> None:
        assert fault({"host": "gateway:5004"}, arrived_at=arrived_at) is None

    @pytest.mark.parametrize("arrived_at", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
    def test_a_loopback_address_is_known_in_every_spelling(self, arrived_at: str) -> None:
        assert fault({"host": "gateway:5004"}, arrived_at=arrived_at) == 403

    @pytest.mark.parametrize(
        "env",
        [
            {"PUBLIC_BASE_URL": "https://gateway/images"},
            {"CORS_ORIGIN": "https://gateway"},
            {"HOST": "gateway"},
            {"K_SERVICE": "generate"},
        ],
    )
    def test_a_host_that_the_operator_names_is_answered(self, env: Headers) -> None:
        assert fault({"host": "gateway:5004"}, **env) is None


class TestOrigin:
    @pytest.mark.parametrize(
        ("headers", "env"),
        [
            ({"origin": "http://127.0.0.1:5004"}, {}),
            ({"origin": "http://localhost:5004"}, {}),
            ({"origin": "http://[::1]:5004"}, {}),
            ({"origin": "http://localhost", "host": "localhost"}, {}),
            ({"origin": "http://localhost", "host": "localhost:80"}, {}),
            ({"origin": "https://localhost", "host": "localhost"}, {}),
            ({"origin": "https://app.example"}, {"CORS_ORIGIN": "https://app.example"}),
            ({"origin": "https://gw.example", "host": "gw.example"}, {"PUBLIC_BASE_URL": "https://gw.example"}),
            ({"sec-fetch-site": "same-origin"}, {}),
            ({"sec-fetch-site": "none"}, {}),
            ({"origin": "https://evil.example"}, {"K_SERVICE": "generate"}),
        ],
    )
    def test_own_and_named_ones_are_answered(self, headers: Headers, env: Headers) -> None:
        assert fault(headers, **env) is None

    @pytest.mark.parametrize(
        ("headers", "env"),
        [
            ({"origin": "https://evil.example"}, {}),
            ({"origin": "https://evil.example"}, {"CORS_ORIGIN": "*"}),
            ({"origin": "https://evil.example"}, {"CORS_ORIGIN": "https://app.example"}),
            ({"origin": "*"}, {}),
            ({"origin": "null"}, {}),
            ({"origin": ""}, {}),
            ({"origin": "file://"}, {}),
            ({"origin": "chrome-extension://abcdef"}, {}),
            ({"origin": "http://127.0.0.1"}, {}),
            ({"origin": "http://127.0.0.1:3000"}, {}),
            ({"origin": "http://127.0.0.1:5004/"}, {}),
            ({"origin": "http://localhost:5004@evil.example"}, {}),
            ({"origin": "http://localhost:5004.evil.example"}, {}),
            ({"origin": "https://localhost", "host": "localhost:80"}, {}),
            ({"sec-fetch-site": "cross-site"}, {}),
        ],
    )
    def test_others_are_not(self, headers: Headers, env: Headers) -> None:
        assert fault(headers, **env) == 403

    def test_a_name_that_points_at_this_machine_is_not_its_own(self) -> None:
        rebound = {"host": "evil.example:5004", "origin": "http://evil.example:5004"}
        assert fault(rebound, arrived_at="192.0.2.7", HOST="0.0.0.0") == 403
        by_address = {"host": "192.0.2.7:5004", "origin": "http://192.0.2.7:5004"}
        assert fault(by_address, arrived_at="192.0.2.7", HOST="0.0.0.0") is None


class TestBody:
    @pytest.mark.parametrize("headers", [{"content-length": "5"}, {"transfer-encoding": "chunked"}])
    def test_it_needs_a_type(self, headers: Headers) -> None:
        assert fault(headers) == 415
        assert fault({**headers, "content-type": " "}) == 415
        for content_type in ("application/json", "multipart/form-data; boundary=x"):
            assert fault({**headers, "content-type": content_type}) is None

    @pytest.mark.parametrize(
        ("method", "headers"), [("POST", {}), ("POST", {"content-length": "0"}), ("GET", {"content-length": "5"})]
    )
    def test_no_body_needs_none(self, method: str, headers: Headers) -> None:
        assert fault(headers, method=method) is None


def test_a_program_without_such_headers_is_answered() -> None:
    assert fault({}) is None
