"""Who asks: an admin key, the caller's own key, an anonymous caller, or nobody."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shared.auth.credentials import authenticate, client_address, id_of, key_in, network_of, require_admin
from shared.errors import BadRequest, Unauthorized
from shared.generation import Caller
from shared.settings.settings import Settings

ADMIN, SECOND = "first-admin-key", "second-admin-key"
OWN = "AQ.callers-own-key"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL3gifQ.c2lnbmF0dXJl"
TOKENS = [
    JWT,
    JWT.rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE",
    JWT.rpartition(".")[0] + ".",
    "eyJhbGciOiJub25lIn0.e30.",
    "ewogImFsZyI6ICJSUzI1NiIKfQ.eyJhdWQiOiJ4In0.c2lnbmF0dXJl",
    "CiB7ImFsZyI6IkhTMjU2In0.eyJhdWQiOiJ4In0.c2ln",
    "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a2V5.aXY.Y2lwaGVy.dGFn",
    "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..aXY.Y2lwaGVy.dGFn",
    "ya29.a0AfB_byC-access-token",
    "ya29.c.b0Aaekm1K-of-an-account",
]
"""Signed, without a signature, unsigned, with white space in the header, encrypted (JWE), and OAuth access tokens."""
SETTINGS = Settings.from_environment({"ADMIN_API_KEY": f"{ADMIN},{SECOND}"})
NO_ADMIN = Settings.from_environment({})


def who(
    headers: dict[str, str] | None = None, key: str | None = None, settings: Settings = SETTINGS, **rest: Any
) -> Caller:
    return authenticate(headers or {}, key, settings, "192.0.2.7", **rest)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


class TestAdmin:
    @pytest.mark.parametrize("key", [ADMIN, SECOND])
    def test_any_of_the_admin_keys_is_the_admins(self, key: str) -> None:
        caller = who({"admin-api-key": key})
        assert (caller.kind, caller.caller_key) == ("admin", None)

    @pytest.mark.parametrize(
        "headers", [bearer(ADMIN), {"x-goog-api-key": ADMIN}, {"authorization": f"bearer {ADMIN}"}]
    )
    def test_a_compatible_api_takes_it_as_its_clients_send_it(self, headers: dict[str, str]) -> None:
        assert who(headers, bearer_is_credential=True).kind == "admin"

    def test_a_compatible_apis_callers_read_of_the_api_key(self) -> None:
        with pytest.raises(Unauthorized, match=r"^No valid credential. Set the client's API key "):
            who({}, bearer_is_credential=True)

    @pytest.mark.parametrize("headers", [bearer(ADMIN), {"x-goog-api-key": ADMIN}])
    def test_admin_key_counts_only_in_its_own_header(self, headers: dict[str, str]) -> None:
        """In other headers it is not mistaken for a Gemini key."""
        with pytest.raises(Unauthorized):
            who(headers)
        with pytest.raises(Unauthorized):
            who(key=ADMIN)

    def test_it_comes_before_the_callers_own_key(self) -> None:
        assert who({"admin-api-key": ADMIN}, OWN).kind == "admin"

    def test_a_wrong_one_beside_a_payload_key_leaves_the_payload_key(self) -> None:
        assert who({"admin-api-key": "wrong"}, OWN).kind == "caller_key"

    def test_without_admin_keys_there_is_no_admin(self) -> None:
        for key in ("", "None", "()", ADMIN):
            with pytest.raises(Unauthorized):
                who({"admin-api-key": key}, settings=NO_ADMIN, bearer_is_credential=True)

    def test_the_caller_is_the_name_given_else_the_key(self) -> None:
        assert who({"admin-api-key": ADMIN, "x-caller-id": "team a"}, user="someone").id == "name:team a"
        assert who({"admin-api-key": ADMIN}, user="someone").id == "name:someone"
        first, second = who({"admin-api-key": ADMIN}).id, who({"admin-api-key": SECOND}).id
        assert (first, second) == ("admin:1", "admin:2"), "its place in ADMIN_API_KEY, and nothing made from the key"

    @pytest.mark.parametrize("name", ["ip:192.0.2.1", f"key:{'0' * 32}", "admin:a593486c14a2", "user:1", "name:x"])
    def test_a_name_collides_with_no_other_id(self, name: str) -> None:
        """Otherwise whoever chooses a name could use up another caller's rate, turns and bytes."""
        for caller in (who({"admin-api-key": ADMIN, "x-caller-id": name}), who({"admin-api-key": ADMIN}, user=name)):
            assert caller.id == f"name:{name}"

    def test_weights_name_a_caller_by_its_id_or_its_name(self) -> None:
        assert [id_of(name) for name in ("team-a", "admin:1", "ip:192.0.2.1")] == [
            "name:team-a",
            "admin:1",
            "ip:192.0.2.1",
        ]

    @pytest.mark.parametrize("name", ["", "x" * 201, "tab\there", "caf\xe9"])
    def test_a_callers_name_that_is_none_is_refused(self, name: str) -> None:
        with pytest.raises(BadRequest, match="x-caller-id"):
            who({"admin-api-key": ADMIN, "x-caller-id": name})

    def test_two_odd_users_stay_two_callers(self) -> None:
        odd = [who({"admin-api-key": ADMIN}, user="é" * n).id for n in (250, 251)]
        assert odd[0] != odd[1]
        assert all(len(name) < 50 and name.isascii() for name in odd)


class TestOwnKey:
    @pytest.mark.parametrize("given", [{"key": OWN}, {"headers": {"x-goog-api-key": OWN}}, {"headers": bearer(OWN)}])
    def test_it_serves_from_the_body_and_from_either_header(self, given: dict[str, Any]) -> None:
        caller = who(**given)
        assert caller.kind == "caller_key"
        assert caller.caller_key is not None
        assert caller.caller_key.reveal() == OWN
        assert caller.id.startswith("key:")
        assert OWN not in caller.id

    def test_the_body_comes_before_headers(self) -> None:
        caller = who({**bearer("AQ.in-the-bearer"), "x-goog-api-key": "AQ.in-the-header"}, OWN)
        assert caller == who(key=OWN)

    @pytest.mark.parametrize("prefix", ["AQ.", "AIza", "eyJ", "a.b.", "other-"])
    def test_no_prefix_is_asked_for(self, prefix: str) -> None:
        assert who(key=f"{prefix}0123456789").kind == "caller_key"

    @pytest.mark.parametrize(
        "key", ["short", "with space in it", "non-ascii-\xe9-key", "line\nbreak-key", "k" * 4097, "k" * 1_000_000]
    )
    def test_a_payload_key_that_cannot_be_one_is_named(self, key: str) -> None:
        with pytest.raises(BadRequest) as caught:
            who(key=key)
        assert caught.value.details == {"field": "credentials.gemini_api_key"}
        assert key not in caught.value.message

    @pytest.mark.parametrize("token", TOKENS)
    def test_a_token_is_not_a_gemini_key(self, token: str) -> None:
        """It opens other services than Gemini, so it must not be sent there."""
        for given in ({"headers": bearer(token)}, {"headers": {"x-goog-api-key": token}}, {"key": token}):
            with pytest.raises(Unauthorized):
                who(**given)

    @pytest.mark.parametrize("token", TOKENS)
    def test_another_credential_beside_a_token_serves(self, token: str) -> None:
        assert who(bearer(token), OWN) == who(key=OWN)
        assert who({**bearer(token), "x-goog-api-key": OWN}) == who(key=OWN)
        assert who({"x-goog-api-key": OWN}, token) == who(key=OWN)
        assert who({**bearer(token), "admin-api-key": ADMIN}).kind == "admin"
        assert who(bearer(token), anonymous_allowed=True).kind == "anonymous"

    def test_it_needs_no_admin_key_on_the_server(self) -> None:
        assert who(key=OWN, settings=NO_ADMIN).kind == "caller_key"


class TestNobody:
    REFUSED: tuple[tuple[dict[str, str], str | None], ...] = (
        ({}, None),
        ({"admin-api-key": ""}, None),
        ({"admin-api-key": "wrong"}, None),
        ({"admin-api-key": ADMIN[:-1]}, None),
        ({"admin-api-key": ADMIN.upper()}, None),
        ({"admin-api-key": f"{ADMIN},{SECOND}"}, None),
        ({"admin-api-key": "\xff\xfe"}, None),
        ({"admin-api-key": "x" * 1_000_000}, None),
        ({"admin-api-key": "wrong"}, ""),
        ({"admin-api-key": "wrong"}, JWT),
        ({"authorization": ADMIN}, None),
        ({"authorization": "Basic Zm9vOmJhcg=="}, None),
        ({"authorization": "Bearer"}, None),
        ({"x-goog-api-key": "short"}, None),
    )

    @pytest.mark.parametrize(("headers", "key"), REFUSED)
    def test_the_answer_does_not_tell_which_part_was_wrong(self, headers: dict[str, str], key: str | None) -> None:
        with pytest.raises(Unauthorized) as caught:
            who(headers, key)
        with pytest.raises(Unauthorized) as usual:
            who()
        assert (caught.value.message, caught.value.details) == (usual.value.message, usual.value.details)

    @pytest.mark.parametrize(
        "text", ["x" * 1_000_000, "eyJ." * 250_000, "eyJ" + "." * 1_000_000, "e" * 1_000_000 + ".."]
    )
    def test_a_million_characters_are_refused_quickly(self, text: str) -> None:
        began = time.thread_time()
        with pytest.raises(Unauthorized):
            who({"admin-api-key": text, **bearer(text)})
        assert time.thread_time() - began < 0.5


class TestAnonymous:
    def test_it_is_the_address_where_no_credential_is_needed(self) -> None:
        assert who(anonymous_allowed=True) == Caller("ip:192.0.2.7", "anonymous")

    def test_it_is_the_network_of_an_ipv6_address(self) -> None:
        """One household has 2**64 addresses; mapped IPv4 addresses are in one network and stay apart."""
        assert network_of("2001:db8:1:2::5") == network_of("2001:db8:1:2:ffff::1") == "ip:2001:db8:1:2::/64"
        assert network_of("2001:db8:1:3::5") != network_of("2001:db8:1:2::5")
        assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "ip:192.0.2.1"
        assert network_of("192.0.2.1") != network_of("192.0.2.2")
        assert network_of("unknown") == "ip:unknown"

    def test_a_credential_is_used_all_the_same(self) -> None:
        assert who({"admin-api-key": ADMIN}, anonymous_allowed=True).kind == "admin"
        assert who(key=OWN, anonymous_allowed=True).kind == "caller_key"

    def test_wrong_admin_key_is_named(self) -> None:
        with pytest.raises(Unauthorized):
            who({"admin-api-key": "wrong"}, anonymous_allowed=True)

    def test_caller_address_is_forwarded_only_when_deployed(self) -> None:
        forwarded = ["203.0.113.9, 198.51.100.1", "192.0.2.1 , 198.51.100.2"]
        assert client_address(forwarded, "169.254.1.1", 1) == "198.51.100.2"
        assert client_address(forwarded, "127.0.0.1", None) == "127.0.0.1"
        assert client_address([], "127.0.0.1", 1) == "127.0.0.1"

    def test_address_behind_load_balancer_is_second_from_end(self) -> None:
        """The load balancer appends the caller's address and its own; what the caller sent stands before both."""
        assert client_address(["198.51.100.2,203.0.113.10"], "169.254.1.1", 2) == "198.51.100.2"
        assert client_address(["192.0.2.66, 198.51.100.2,203.0.113.10"], "169.254.1.1", 2) == "198.51.100.2"
        assert client_address(["192.0.2.66", "198.51.100.2", "203.0.113.10"], "169.254.1.1", 2) == "198.51.100.2"

    def test_address_without_load_balancer_is_the_only_one(self) -> None:
        assert client_address(["198.51.100.2"], "169.254.1.1", 2) == "198.51.100.2"
        assert client_address([""], "169.254.1.1", 2) == "169.254.1.1"


class TestKeyInTheBody:
    @pytest.mark.parametrize("body", [None, [], "x", {}, {"credentials": None}, {"credentials": {}}])
    def test_it_may_be_absent(self, body: object) -> None:
        assert key_in(body) is None

    @pytest.mark.parametrize("empty", [None, ""])
    def test_null_and_empty_count_as_absent(self, empty: object) -> None:
        assert key_in({"credentials": {"gemini_api_key": empty}}) is None

    @pytest.mark.parametrize(
        ("credentials", "field"),
        [
            ("key", "credentials"),
            ([OWN], "credentials"),
            (1, "credentials"),
            ({"gemini_api_key": 1}, "credentials.gemini_api_key"),
            ({"gemini_api_key": [OWN]}, "credentials.gemini_api_key"),
        ],
    )
    def test_the_wrong_type_names_the_field(self, credentials: object, field: str) -> None:
        with pytest.raises(BadRequest) as caught:
            key_in({"credentials": credentials})
        assert caught.value.details == {"field": field}


class TestAdminOnly:
    @pytest.mark.parametrize("key", [ADMIN, SECOND])
    def test_every_valid_admin_key_opens(self, key: str) -> None:
        caller = require_admin({"admin-api-key": key, "x-caller-id": "team"}, SETTINGS)
        assert (caller.kind, caller.id, caller.caller_key) == ("admin", "name:team", None)

    @pytest.mark.parametrize("headers", [{}, {"admin-api-key": ""}, {"admin-api-key": "wrong"}, bearer(ADMIN)])
    @pytest.mark.parametrize("settings", [SETTINGS, NO_ADMIN])
    def test_nothing_else_does(self, headers: dict[str, str], settings: Settings) -> None:
        with pytest.raises(Unauthorized) as caught:
            require_admin(headers, settings)
        assert "wrong" not in caught.value.message
