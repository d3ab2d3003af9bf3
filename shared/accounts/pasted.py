"""Finds the credentials in pasted text: one on each line in any usual form, and the JSON of service accounts. Pure.

    AIza...                       a key
    GEMINI_API_KEY_3=AIza...      a name and a key, also with `export`, quotes, a comma at the end
    team a,AIza...                the same, separated by a comma, a semicolon, a tab, a bar, or a colon
    AIza...  # from Ann           a comment after it; also `//`, or the comment alone on a line
    {"type": "service_account", "project_id": ...}     as Google writes it, on one line or on several

A line that is none of these is malformed; it is named by its number and never repeated.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from shared.accounts.account import Kind
from shared.secret import QUOTES, Secret, credential_fault

MAX_PASTED_CHARS = 4_000_000
MAX_PASTED_LINES = 20_000
MAX_LINE_CHARS = 20_000
MAX_LABEL_CHARS = 100
MAX_KEY_CHARS = 4_096
MIN_PASTED_KEY_CHARS = 20
"""Longer than a word or a name, so that neither is taken for a key. Google's keys have 39 characters and more."""
_MAX_BLOCK_LINES = 200

_COMMENT = re.compile(r"^(?:#|//|;).*$|\s+(?:#|//).*$")
_HEADING = re.compile(r"(?:name|label|id|project|account|key|api[ _]?key|comment|[,;\t| ])+", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"(?:export\s+|set\s+|\$env:)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(?=\S)", re.IGNORECASE)
_SEPARATORS = re.compile(r"\s*[,;\t|]\s*|:\s+")
_PREFIXED = re.compile(r"(?:AIza|AQ\.)[\w.-]{16,4000}")
_KEY = re.compile(rf"[A-Za-z0-9._~+/=-]{{{MIN_PASTED_KEY_CHARS},{MAX_KEY_CHARS}}}")
_FLAT_OBJECT = re.compile(r'\{(?:[^{}"]|"(?:[^"\\\n]|\\.)*+")*+\}')
_AROUND = " \t,;[]"
_SERVICE_ACCOUNT_FIELDS = ("project_id", "client_email", "private_key", "token_uri")
_PROJECT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,99}")


class TooMuchText(ValueError):
    """The pasted text exceeds a limit. The message is one sentence."""


class Line(NamedTuple):
    """A line that adds nothing: its number, from 1, and why."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Credential:
    """The credential of one account, in the form that an Account of its kind has."""

    kind: Kind
    secret: Secret
    label: str = ""
    place: Mapping[str, str] = field(default_factory=dict)
    line: int = 1

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.kind, self.secret)


@dataclass(frozen=True, slots=True)
class Pasted:
    new: tuple[Credential, ...]
    duplicates: tuple[Line, ...]
    malformed: tuple[Line, ...]


def fingerprint_of(kind: Kind, secret: Secret) -> str:
    """Not secret, and the same for each spelling of one credential: a service account is its private key."""
    text = secret.reveal()
    if kind != "api_key":
        found = orjson.loads(text)
        text = str(found.get("private_key") or orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode()).strip()
    return Secret(text).fingerprint("account")


def parse_pasted(text: str, known: Set[str] = frozenset()) -> Pasted:
    """`known`: the fingerprints of accounts that exist. Raises TooMuchText."""
    lines = text.count("\n")
    if len(text) > MAX_PASTED_CHARS:
        raise TooMuchText(f"The text has {len(text):,} characters; paste at most {MAX_PASTED_CHARS:,} at once.")
    if lines > MAX_PASTED_LINES:
        raise TooMuchText(f"The text has {lines:,} lines; paste at most {MAX_PASTED_LINES:,} at once.")
    new: dict[str, Credential] = {}
    duplicates: list[Line] = []
    malformed: list[Line] = []
    for found in _items(text.removeprefix("\ufeff")):
        if isinstance(found, Line):
            malformed.append(found)
        elif (fingerprint := found.fingerprint) in known:
            duplicates.append(Line(found.line, "this account exists already"))
        elif fingerprint in new:
            duplicates.append(Line(found.line, f"the same as line {new[fingerprint].line}"))
        else:
            new[fingerprint] = found
    return Pasted(tuple(new.values()), tuple(duplicates), tuple(malformed))


def _items(text: str) -> Iterator[Credential | Line]:
    """Each credential, and each malformed line."""
    lines = text.split("\n")
    braces = [index for index, line in enumerate(lines) if line.lstrip().startswith("}")]
    ends = [index for index, line in enumerate(lines) if line.lstrip().startswith("-----END")]
    at, index = 0, 0
    while index < len(lines):
        raw, number = lines[index], index + 1
        line, last = raw.strip(), index
        if len(raw) > MAX_LINE_CHARS:
            yield Line(number, f"longer than {MAX_LINE_CHARS:,} characters")
        elif line.startswith("{"):
            start = at + raw.index("{")
            whole = _FLAT_OBJECT.match(text, start, start + MAX_LINE_CHARS)
            yield _service_account(whole[0] if whole else None, number)
            last = index + whole[0].count("\n") if whole else _end_of_block(braces, index)
        elif line.startswith("-----BEGIN"):
            yield Line(number, "a private key alone; paste the whole JSON file of the service account")
            last = _end_of_block(ends, index)
        elif line and not (index == 0 and _HEADING.fullmatch(line)):
            yield from _on_line(_COMMENT.sub("", line).strip(_AROUND), number)
        at += sum(len(one) + 1 for one in lines[index : last + 1])
        index = last + 1


def _end_of_block(ends: list[int], start: int) -> int:
    """The first of `ends` from `start` on, if it is near; else `start`: the block has one line."""
    place = bisect_left(ends, start)
    near = place < len(ends) and ends[place] - start < _MAX_BLOCK_LINES
    return ends[place] if near else start


def _service_account(text: str | None, number: int) -> Credential | Line:
    if text is None:
        return Line(
            number, "a JSON object that does not end, or has objects inside; paste a service account's key file"
        )
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return Line(number, "not valid JSON; paste the service account's key file as it is")
    return service_account(found, number)


def service_account(found: Mapping[str, object], number: int = 1) -> Credential | Line:
    """An account of the kind vertex for the parsed key file of a service account."""
    if found.get("type") != "service_account":
        return Line(number, "a JSON object whose type is not service_account; paste a service account's key file")
    texts = {name: value for name in _SERVICE_ACCOUNT_FIELDS if isinstance(value := found.get(name), str) and value}
    for name in _SERVICE_ACCOUNT_FIELDS:
        if name not in texts:
            return Line(number, f"a service account without {name}; paste its key file as Google wrote it")
    if not _PROJECT_ID.fullmatch(texts["project_id"]):
        return Line(number, "a service account whose project_id is not a project's id")
    if "PRIVATE KEY-----" not in texts["private_key"]:
        return Line(number, "a service account whose private_key is not a PEM key")
    secret = Secret(orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode())
    place = {"project": texts["project_id"], "location": "global"}
    return Credential("vertex", secret, texts["client_email"][:MAX_LABEL_CHARS], place, number)


def _on_line(text: str, number: int) -> Iterator[Credential | Line]:
    if not text:
        return
    label, rest = "", text
    if assigned := _ASSIGNMENT.match(text):
        label, rest = assigned[1], text[assigned.end() :]
    parts = [part for part in (_bare(part) for part in _SEPARATORS.split(rest)) if part]
    keys = [part for part in parts if _PREFIXED.fullmatch(part)]
    if not keys and len(parts) == 1:
        # A name and a key that only a space separates: the key is known by its prefix.
        words = [_bare(word) for word in parts[0].split()]
        keys = [word for word in words if _PREFIXED.fullmatch(word)]
        parts = words if keys else parts
    if not keys:
        keys = [part for part in reversed(parts) if _KEY.fullmatch(part) and not credential_fault(part)][:1]
    if not keys:
        yield Line(number, _why_no_key(parts))
    elif len(keys) == 1:
        names = [part for part in parts if part != keys[0]]
        yield Credential("api_key", Secret(keys[0]), _label(label or (names[0] if names else "")), line=number)
    else:
        yield from (Credential("api_key", Secret(key), line=number) for key in keys)


def _bare(part: str) -> str:
    return part.strip(_AROUND).removeprefix("- ").strip(QUOTES).strip()


def _label(text: str) -> str:
    """`text` as a label; empty where a part of it could be a credential."""
    if any(len(word) >= MIN_PASTED_KEY_CHARS and not word.startswith(("GEMINI_", "GOOGLE_")) for word in text.split()):
        return ""
    return "".join(char for char in text if char.isprintable())[:MAX_LABEL_CHARS]


def _why_no_key(parts: list[str]) -> str:
    if not parts:
        return "no key"
    last = parts[-1]
    if fault := credential_fault(last):
        return f"its key {fault}"
    if not last.isascii() or not last.isprintable():
        return "its key has characters that no key has"
    if " " in last:
        return "several words, and none of them is a key"
    if len(last) < MIN_PASTED_KEY_CHARS:
        return f"its key is shorter than {MIN_PASTED_KEY_CHARS} characters"
    if len(last) > MAX_KEY_CHARS:
        return f"its key is longer than {MAX_KEY_CHARS:,} characters"
    return "its key has characters that no key has"
