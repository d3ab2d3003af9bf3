"""The old program's file: what is read, what is kept, and what is rejected with which sentence."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from shared.accounts.old_file import (
    ENCRYPTED,
    MAX_FILE_ACCOUNTS,
    MAX_FILE_BYTES,
    MAX_FILE_DEPTH,
    MAX_FILE_VALUES,
    MAX_PROBLEMS,
    InvalidOldFile,
    OldFile,
    credential_in,
    public_url,
    read_old_file,
    secrets_of,
    with_secrets,
    write_old_file,
)
from shared.secret import Secret
from tests.support.old_files import COOKIE, HOST_COOKIE, PROXY, TOKEN, account, document, model


def read(value: object) -> OldFile:
    return read_old_file(orjson.dumps(value))


def problem(value: object) -> str:
    with pytest.raises(InvalidOldFile) as found:
        read(value)
    return str(found.value)


class TestReading:
    def test_fields_are_read_and_unknown_ones_kept(self) -> None:
        file = read(document())
        first, second = file.accounts
        assert (first.team_id, first.csesidx, first.available, second.available) == (
            "3f0a9a62-team", "1234567890", True, False,
        )  # fmt: skip
        assert first.secrets and orjson.loads(first.secrets.reveal()) == {
            "secure_c_ses": COOKIE, "host_c_oses": HOST_COOKIE,
        }  # fmt: skip
        assert (file.proxy, file.proxy_enabled) == (Secret(PROXY), True)
        assert (first.unknown, file.unknown) == ({"note": "mine"}, {"log_level": "INFO"})
        assert file.models[0] == model(tags=["fast"])

    def test_unknown_fields_with_a_secrets_name_are_secrets(self) -> None:
        file = read(document())
        assert file.accounts[1].secrets and TOKEN in file.accounts[1].secrets.reveal()
        assert file.secrets and orjson.loads(file.secrets.reveal()) == {"api_tokens": [TOKEN]}
        by_value = read(document(note="see AIza" + "planted0123456789", models=[model(hook=PROXY)]))
        assert "note" not in by_value.unknown and "hook" not in by_value.models[0]
        assert by_value.secrets and PROXY in by_value.secrets.reveal()
        nested = read(document(store={"login": {"password": TOKEN}, "path": "x"}))
        assert "store" not in nested.unknown
        assert TOKEN not in repr(file) + repr(nested)

    def test_numbers_with_a_secrets_name_are_not_secrets(self) -> None:
        assert read(document(max_tokens=5)).unknown["max_tokens"] == 5

    def test_id_names_the_seat_and_not_its_place(self) -> None:
        one, two = read(document()).accounts
        assert one.id != two.id
        assert read(document(accounts=[account(csesidx="2"), account()])).accounts[1].id == one.id

    def test_smallest_file_and_whole_numbers_as_index(self) -> None:
        file = read({"accounts": [{"team_id": "t", "csesidx": 7}]})
        assert (file.accounts[0].csesidx, file.accounts[0].secrets, file.proxy) == ("7", None, None)
        assert read({"accounts": []}) == OldFile()

    def test_a_script_in_a_name_is_text(self) -> None:
        script = "<script>alert(1)</script>"
        assert read(document(models=[model(name=script)])).models[0]["name"] == script

    def test_a_byte_order_mark_is_skipped(self) -> None:
        assert read_old_file(b"\xef\xbb\xbf" + orjson.dumps(document())) == read(document())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "accounts missing": ({}, "accounts is missing; it must be a list of objects."),
    "accounts type": ({"accounts": {}}, "accounts is an object; it must be a list"),
    "account type": ({"accounts": ["x"]}, "accounts[0] is a string; it must be an object."),
    "team type": (document(accounts=[account(team_id=5)]), "accounts[0].team_id is a number; it must be a text of 1 to 100"),
    "team empty": (document(accounts=[account(), account(team_id=" ")]), "accounts[1].team_id is empty"),
    "team other": (document(accounts=[account(team_id="<b>")]), "accounts[0].team_id has other characters"),
    "team missing": ({"accounts": [{"csesidx": "1"}]}, "accounts[0].team_id is missing"),
    "index type": (document(accounts=[account(csesidx=True)]), "accounts[0].csesidx is a boolean"),
    "cookie break": (document(accounts=[account(secure_c_ses="a; b=cdefghijk")]), "accounts[0].secure_c_ses has characters that"),
    "cookie line": (document(accounts=[account(host_c_oses="a\nb")]), "accounts[0].host_c_oses has control characters"),
    "cookie short": (document(accounts=[account(host_c_oses="short")]), "host_c_oses has fewer than 10 characters"),
    "cookie long": (document(accounts=[account(host_c_oses="a" * 5000)]), "host_c_oses has 5,000 characters"),
    "one cookie": (document(accounts=[account(host_c_oses="")]), "accounts[0].host_c_oses is empty, and the other cookie"),
    "agent": (document(accounts=[account(user_agent="Agent\u20ac")]), "accounts[0].user_agent has characters that a header"),
    "available": (document(accounts=[account(available="yes")]), "accounts[0].available is a string; it must be true or"),
    "twice": (document(accounts=[account(), account()]), "accounts[1] has the same team_id and csesidx as accounts[0]"),
    "unknown": (document(accounts=[account(cookies="x" * 13_000)]), "accounts[0] has too many unknown fields"),
    "proxy type": (document(proxy=[]), "proxy is a list; it must be a text"),
    "proxy socks": (document(proxy="socks5://x:1"), "proxy is not valid; it must be empty, or a URL like http://proxy"),
    "proxy port": (document(proxy="http://x:abc"), "proxy is not valid"),
    "proxy none": (document(proxy=""), "proxy_enabled is true without a proxy"),
    "switch": (document(proxy_enabled=1), "proxy_enabled is a number; it must be true or false."),
    "proxy path": (document(proxy="http://x:1/path"), "proxy is not valid"),
    "other kind": (document(other_accounts=[{"id": "a"}]), "other_accounts[0].kind is missing; it must be one of api_key"),
    "other place": (document(other_accounts=[{"id": "a", "kind": "vertex", "place": 1}]), "other_accounts[0].place is not"),
    "other field": (document(other_accounts=[{"id": "a", "kind": "vertex", "key": 1}]), "other_accounts[0].key is not known"),
    "model id": (document(models=[{}]), "models[0].id is missing"),
    "model name": (document(models=[model(name=[])]), "models[0].name is a list"),
    "model number": (document(models=[model(max_tokens="8k")]), "models[0].max_tokens is a string; it must be 0 or more."),
    "model minus": (document(models=[model(price_per_1k_tokens=-1)]), "models[0].price_per_1k_tokens is negative"),
    "model index": (document(models=[model(account_index=2)]), "models[0].account_index names no account of this file"),
    "models twice": (document(models=[model(), model()]), "models[1] has the same id as models[0]"),
    "deep": (document(x=[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]), f"nested deeper than {MAX_FILE_DEPTH} levels"),
    "many accounts": ({"accounts": [{}] * (MAX_FILE_ACCOUNTS + 1)}, "accounts has 1,001 entries; it must be a list of at most"),
}  # fmt: skip


class TestWrongFiles:
    @pytest.mark.parametrize("name", WRONG)
    def test_wrong_field_is_named_with_what_is_allowed(self, name: str) -> None:
        value, words = WRONG[name]
        assert words in problem(value)

    @pytest.mark.parametrize("name", WRONG)
    def test_no_problem_repeats_a_value(self, name: str) -> None:
        text = problem(WRONG[name][0])
        assert not [secret for secret in (COOKIE, HOST_COOKIE, PROXY, TOKEN, "socks5", "<b>", "yes") if secret in text]

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "The file is not JSON: "),
            (b"[" * 100_000, "The file has more than 50,000 values"),
            (b"[" * 5_000 + b"]" * 5_000, "The file is not JSON: depth limit exceeded"),
            (b"[]", "The file is a list; it must be an object"),
            (b'{"accounts": [NaN]}', "The file is not JSON: "),
            (b'{"accounts": "\xff"}', "The file is not JSON: "),
            (b" " * 10_000_000, f"The file has 10,000,000 bytes; at most {MAX_FILE_BYTES:,} are allowed."),
            (b"[" + b"1," * MAX_FILE_VALUES + b"1]", f"more than {MAX_FILE_VALUES:,} values"),
        ],
    )
    def test_hostile_bytes_are_rejected_in_one_sentence(self, data: bytes, words: str) -> None:
        with pytest.raises(InvalidOldFile) as found:
            read_old_file(data)
        assert words in str(found.value)
        assert len(found.value.problems) == 1

    def test_all_problems_are_told_up_to_a_limit(self) -> None:
        with pytest.raises(InvalidOldFile) as found:
            read(document(proxy=1, accounts=[account(available=0), *[7] * 50]))
        assert len(found.value.problems) == MAX_PROBLEMS


class TestWriting:
    def test_written_file_reads_the_same_without_secrets(self) -> None:
        file = read(document())
        written = write_old_file(file)
        again = read_old_file(written)
        assert write_old_file(again) == written
        assert again.models == file.models
        shown = orjson.loads(written)
        assert (shown["proxy"], shown["log_level"]) == ("http://proxy.example:3128", "INFO")
        assert shown["accounts"][0] == account(secure_c_ses="", host_c_oses="", note="mine")
        assert not [text for text in (COOKIE, HOST_COOKIE, "planted-password", TOKEN) if text in written.decode()]

    def test_secrets_restore_the_whole_file(self) -> None:
        file = read(document())
        exported = read_old_file(write_old_file(file))
        restored, others = with_secrets(exported, secrets_of(file, {"a-1": Secret("AIza-key")}))
        assert (restored, others) == (file, {"a-1": Secret("AIza-key")})

    @pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"proxy":"","file":"","accounts":[]}'])
    def test_other_encrypted_content_is_rejected(self, text: bytes) -> None:
        with pytest.raises(InvalidOldFile, match=ENCRYPTED):
            with_secrets(OldFile(), text)


@pytest.mark.parametrize(
    ("at", "credential"), [("", None), ("agent:planted@", "agent:planted"), ("planted@", "planted")]
)
@pytest.mark.parametrize("host", ["proxy.example:3128", "[::1]", "[::1]:3128"])
def test_a_proxy_is_shown_without_its_credential(at: str, host: str, credential: str | None) -> None:
    url = Secret(f"http://{at}{host}")
    assert public_url(url) == f"http://{host}"
    assert credential_in(url) == (Secret(credential) if credential else None)
