"""A stored account: what it is, its state, and its secret in sealed form. Pure.

A record that is not valid cannot exist: its construction raises BadRequest with the field's path.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

from shared.accounts.account import Kind
from shared.errors import BadRequest

MAX_LABEL_CHARS = 100
MAX_REASON_CHARS = 300
MAX_SEALED_CHARS = 20_000
_MAX_UNKNOWN_FIELDS = 100
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,99}")
_USER_AGENT = re.compile(r"[\x20-\x7e]{1,500}")
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, halves of a surrogate pair, and separators of lines and paragraphs."""
_DIRECTION = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""They change the direction of text, so that what a person reads is not what is stored."""

PLACES: Mapping[Kind, Mapping[str, str | None]] = {
    "api_key": {},
    "vertex": {"project": None, "location": "global"},
    "enterprise": {"project": None, "location": "global", "engine": None, "assistant": "default_assistant"},
    "enterprise_session": {"team_id": None, "csesidx": None, "user_agent": ""},
}
"""Kind -> the fields of `place` and their defaults; None: the field is required."""


@dataclass(frozen=True, slots=True)
class OutReason:
    """Why Gemini serves nothing for an account until a person acts: the kind of the failure, Google's message, and since when."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "strict": True}

    kind: str
    message: str = ""
    since_ms: int = 0

    def __post_init__(self) -> None:
        check_text("out.kind", self.kind)
        check_text("out.message", self.message, MAX_REASON_CHARS)
        _check_time("out.since_ms", self.since_ms)

    @classmethod
    def of(cls, kind: str, message: str, since_ms: int) -> OutReason:
        """A reason with Google's message on one line and within its bounds."""
        kept = "".join(char for char in " ".join(message.split()) if _is_allowed(char))
        return cls(kind, kept[:MAX_REASON_CHARS], since_ms)


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """`sealed` is made by `sealing.DataKeys` and opens only for this `id`. Nothing else in a record is secret."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "strict": True}

    id: str
    kind: Kind
    sealed: str = field(repr=False)
    label: str = ""
    """The operator's name for it: any text, only ever shown as text."""
    project: str | None = None
    """The Google project, if it is known. Accounts of one project and one kind share its limits."""
    enabled: bool = True
    """False: the operator disabled it."""
    out: OutReason | None = None
    """Gemini rejected its credential. None: it did not, as far as is known."""
    revision: int = 0
    """Increases when the operator enables the account or replaces its secret. A rejection of an earlier revision is void."""
    added_ms: int = 0
    place: Mapping[str, str] = field(default_factory=dict)
    last4: str = ""
    """The last four characters of the secret, by which a person recognizes it; empty for a short secret."""
    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Fields of an imported account that have no meaning here. An export returns them."""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise BadRequest(
                "accounts: an id must be 1 to 63 characters a-z, 0-9 and '-', such as a-1f3c.", field="accounts"
            )
        path = f"accounts.{self.id}"
        if self.kind not in get_args(Kind):
            raise BadRequest(f"{path}.kind must be one of {', '.join(get_args(Kind))}.", field=f"{path}.kind")
        check_text(f"{path}.label", self.label)
        check_text(f"{path}.last4", self.last4, 4)
        check_text(f"{path}.sealed", self.sealed, MAX_SEALED_CHARS)
        _check_time(f"{path}.added_ms", self.added_ms)
        if self.revision < 0:
            raise BadRequest(f"{path}.revision must be 0 or more.", field=f"{path}.revision")
        if self.project is not None:
            check_name(f"{path}.project", self.project)
        if len(self.unknown) > _MAX_UNKNOWN_FIELDS:
            raise BadRequest(f"{path}.unknown has more than {_MAX_UNKNOWN_FIELDS} fields.", field=f"{path}.unknown")
        _check_place(f"{path}.place", self.kind, self.place)

    @property
    def state(self) -> str:
        """ENABLED, DISABLED (by the operator) or FAILED_INIT (by Gemini's rejection)."""
        return "DISABLED" if not self.enabled else "FAILED_INIT" if self.out is not None else "ENABLED"

    @property
    def ledger_id(self) -> str | None:
        """The ledger of its project and backend; None if the project is not known. Vertex AI and the Gemini API have quotas of
        their own for one project. `~` is in no project's id, so ledgers of two kinds differ."""
        project = self.place.get("project") or self.place.get("team_id") or self.project
        if project is None or self.kind == "api_key":
            return self.project
        return f"{self.kind}~{project}"


def place_of(kind: Kind, given: Mapping[str, str]) -> dict[str, str]:
    """`given` with the defaults of the kind. Raises BadRequest."""
    defaults = {name: value for name, value in PLACES[kind].items() if value is not None}
    place = {**defaults, **given}
    _check_place("place", kind, place)
    return place


def check_text(path: str, text: str, max_chars: int = MAX_LABEL_CHARS) -> None:
    """Raises BadRequest for a text that is too long, or has a character that cannot be shown."""
    if len(text) > max_chars:
        raise BadRequest(f"{path} has {len(text)} characters; shorten it to at most {max_chars}.", field=path)
    if not all(map(_is_allowed, text)):
        raise BadRequest(f"{path} has a control character; remove it.", field=path)


def check_name(path: str, text: str) -> None:
    """Raises BadRequest for what cannot be the id of a project, an engine or a location."""
    if not _NAME.fullmatch(text):
        raise BadRequest(
            f"{path} must be 1 to 100 letters, digits, '.', '_', ':' and '-', and begin with a letter or a digit.",
            field=path,
        )


def _is_allowed(char: str) -> bool:
    return (char.isascii() and char.isprintable()) or (
        unicodedata.category(char) not in _FORBIDDEN and not _DIRECTION.match(char)
    )


def _check_place(path: str, kind: Kind, place: Mapping[str, str]) -> None:
    known = PLACES[kind]
    for name in place:
        if name not in known:
            allowed = f"use {', '.join(known)}" if known else "leave it empty"
            raise BadRequest(f"{path} has an unknown field for the kind {kind}; {allowed}.", field=path)
    for name, default in known.items():
        if default is None and not place.get(name):
            raise BadRequest(
                f"{path}.{name} is missing; an account of the kind {kind} needs it.", field=f"{path}.{name}"
            )
    for name, value in place.items():
        if name != "user_agent":
            check_name(f"{path}.{name}", value)
        elif value and not _USER_AGENT.fullmatch(value):
            raise BadRequest(f"{path}.{name} must be at most 500 printable ASCII characters.", field=f"{path}.{name}")


def _check_time(path: str, time_ms: int) -> None:
    if not 0 <= time_ms < 1 << 48:
        raise BadRequest(f"{path} must be milliseconds since 1970.", field=path)
