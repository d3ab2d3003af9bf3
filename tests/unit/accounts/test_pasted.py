"""Pasted text: each usual form of a key, and why a line is not taken."""

from __future__ import annotations

import orjson
import pytest

from shared.accounts.pasted import (
    MAX_PASTED_CHARS,
    MAX_PASTED_LINES,
    Credential,
    TooMuchText,
    fingerprint_of,
    parse_pasted,
)
from shared.secret import Secret

KEY, OTHER = "AIzaSy" + "planted-key-0123456789_abcdefghij", "AQ.Ab8" + "planted-key-0123456789_abcdefghij"
PLAIN = "sk0planted0key0without0prefix0123456789"
PEM = "-----BEGIN PRIVATE KEY-----\nplantedPrivateKeyplantedPrivateKey0123456789\n-----END PRIVATE KEY-----\n"
SERVICE_ACCOUNT = {
    "type": "service_account",
    "project_id": "my-project",
    "private_key_id": "0123456789abcdef0123456789abcdef01234567",
    "private_key": PEM,
    "token_uri": "https://oauth2.googleapis.com/token",
    "client_email": "gateway@my-project.iam.gserviceaccount.com",
}


def found(text: str) -> list[tuple[str, str]]:
    """(label, key) of each credential; no line of `text` is malformed."""
    pasted = parse_pasted(text)
    assert not pasted.malformed and not pasted.duplicates
    return [(one.label, one.secret.reveal()) for one in pasted.new]


@pytest.mark.parametrize(
    ("line", "label"),
    [
        (KEY, ""),
        (f"  {KEY}\r", ""),
        (f"GEMINI_API_KEY={KEY}", "GEMINI_API_KEY"),
        (f'export GEMINI_API_KEY_12="{KEY}"', "GEMINI_API_KEY_12"),
        (f"$env:KEY = '{KEY}'", "KEY"),
        (f"team a,{KEY}", "team a"),
        (f"{KEY},team a", "team a"),
        (f"team a\t{KEY}", "team a"),
        (f"team a; {KEY}", "team a"),
        (f"| team a | {KEY} |", "team a"),
        (f"team: {KEY}", "team"),
        (f'  "team": "{KEY}",', "team"),
        (f'"{KEY}",', ""),
        (f"- {KEY}", ""),
        (f"ann {KEY}", "ann"),
        (f"{KEY}  # from Ann", ""),
        (f"{KEY} // from Ann", ""),
        (f"# the first\n\n{KEY}\n; end", ""),
        (f"name,key\n{KEY}", ""),
        (f"\ufeff{KEY}", ""),
        (PLAIN, ""),
        (f"team,{PLAIN}", "team"),
        (f"{KEY.replace('AIza', 'aiza')}", ""),
    ],
)
def test_usual_forms_of_a_key_are_read(line: str, label: str) -> None:
    key = PLAIN if PLAIN in line else KEY if KEY in line else line
    assert found(line) == [(label, key)]


def test_several_keys_on_one_line_are_several_accounts() -> None:
    assert found(f'["{KEY}", "{OTHER}"]') == [("", KEY), ("", OTHER)]


@pytest.mark.parametrize("indent", [0, 2])
def test_a_service_account_is_read_on_one_line_or_on_several(indent: int) -> None:
    text = orjson.dumps(SERVICE_ACCOUNT, option=orjson.OPT_INDENT_2 if indent else 0).decode()
    pasted = parse_pasted(f"{KEY}\n{text},\n{OTHER}")
    key, account, other = pasted.new
    assert (account.kind, account.place) == ("vertex", {"project": "my-project", "location": "global"})
    assert account.label == SERVICE_ACCOUNT["client_email"]
    assert orjson.loads(account.secret.reveal()) == SERVICE_ACCOUNT
    assert (key.line, account.line, other.line) == (1, 2, 10 if indent else 3)
    assert not pasted.malformed


def test_a_service_account_is_its_private_key() -> None:
    """Its JSON may be written in another order, or have other fields."""
    text = orjson.dumps(dict(reversed(SERVICE_ACCOUNT.items())) | {"universe_domain": "x"}).decode()
    pasted = parse_pasted(f"{orjson.dumps(SERVICE_ACCOUNT).decode()}\n{text}")
    assert (len(pasted.new), pasted.duplicates) == (1, ((2, "the same as line 1"),))


def test_duplicates_name_the_line_or_the_existing_account() -> None:
    known = {fingerprint_of("api_key", Secret(KEY))}
    pasted = parse_pasted(f"{KEY}\n{OTHER}\nagain,{OTHER}", known)
    assert [one.secret for one in pasted.new] == [Secret(OTHER)]
    assert pasted.duplicates == ((1, "this account exists already"), (3, "the same as line 2"))


BROKEN = orjson.dumps(SERVICE_ACCOUNT, option=orjson.OPT_INDENT_2).decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "its key is shorter than 20 characters"),
        ("these are only some words", "several words, and none of them is a key"),
        ("name=", "its key is shorter"),
        ("a, b", "its key is shorter"),
        ("your-gemini-api-key-here", "its key is the placeholder of an example"),
        ("schl\u00fcssel0123456789abcdefghij", "its key has characters that no key has"),
        ("k" * 5000, "its key is longer than 4,096 characters"),
        ("'\"", "no key"),
        ('{"type": "authorized_user"}', "a JSON object whose type is not service_account"),
        ('{"type": "service_account"}', "a service account without project_id"),
        (orjson.dumps(SERVICE_ACCOUNT | {"project_id": "a b"}).decode(), "whose project_id is not a project's id"),
        (orjson.dumps(SERVICE_ACCOUNT | {"private_key": "x"}).decode(), "whose private_key is not a PEM key"),
        ('{"a": }', "not valid JSON"),
        ('{"a": {"b": 1}}', "a JSON object that does not end, or has objects inside"),
        (BROKEN.replace('",\n', '" {\n', 1), "a JSON object that does not end"),
        (PEM, "a private key alone"),
    ],
)
def test_malformed_lines_are_counted_and_never_repeated(text: str, why: str) -> None:
    """The lines of a broken JSON object or of a private key are not taken for keys."""
    pasted = parse_pasted(f"{OTHER}\n{text}\n{KEY}")
    assert [(line.number, why in line.why) for line in pasted.malformed] == [(2, True)]
    assert [one.secret.reveal() for one in pasted.new] == [OTHER, KEY]
    assert not any(word in line.why for line in pasted.malformed for word in text.split() if len(word) > 9)


def test_a_label_never_holds_what_may_be_a_key() -> None:
    assert [one.label for one in parse_pasted(f"{PLAIN},{KEY}").new] == [""]


def test_repr_of_a_credential_is_without_its_key() -> None:
    assert KEY not in repr(parse_pasted(f"a,{KEY}"))
    assert "planted" not in repr(Credential("vertex", Secret(orjson.dumps(SERVICE_ACCOUNT).decode())))


def test_too_much_text_is_rejected() -> None:
    with pytest.raises(TooMuchText, match="4,000,001 characters"):
        parse_pasted("x" * (MAX_PASTED_CHARS + 1))
    with pytest.raises(TooMuchText, match="20,001 lines"):
        parse_pasted("\n" * (MAX_PASTED_LINES + 1))


@pytest.mark.parametrize(
    ("text", "malformed"),
    [
        ("{\n" * 300, 300),
        ('{"a":\n' * 300, 300),
        ('{"\n' * 300, 300),
        ("-----BEGIN\n" * 300, 300),
        ('{"a": "\n' * 100 + "}", 1),
        ('"' * 10_000, 1),
        ("a," * 10_000, 1),
        ("AIza" * 5_000, 1),
        ("AIza" * 5_001, 1),
        ("# " * 10_000, 0),
        ("\x00" * 40, 1),
    ],
)
def test_hostile_text_yields_nothing(text: str, malformed: int) -> None:
    pasted = parse_pasted(text)
    assert (len(pasted.new), len(pasted.malformed)) == (0, malformed)


def test_each_of_500_lines_is_counted_once() -> None:
    keys = [f"AIzaSy-planted-{number:020}" for number in range(400)]
    lines = [*keys, *(f"team {number},{keys[number]}" for number in range(80)), *["not a key"] * 20]
    pasted = parse_pasted("\n".join(lines))
    assert (len(pasted.new), len(pasted.duplicates), len(pasted.malformed)) == (400, 80, 20)
