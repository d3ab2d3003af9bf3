"""A string that is never shown: not by repr, str or format, nor in a log line or an error."""

from __future__ import annotations

import hashlib
import hmac
import re

QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_PLACEHOLDER = re.compile(
    r"<.*>|\$\{.*|\{\{.*|(?-i:\$[A-Z][A-Z0-9_]*)|\.{3,}|\*+|x{4,}|change[-_ ]?me|(gemini|google|admin)?[-_]?api[-_]?key"
    r"|your[-_ ].*(key|token|secret)([-_ ]here)?|(put|insert|enter|replace|paste)[-_ ].*key.*",
    re.IGNORECASE,
)
"""Placeholders of examples, and variables that a shell or a template did not substitute."""


class Secret:
    """Wraps a credential. Only `reveal()` returns its text; comparing takes constant time."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def fingerprint(self, purpose: str) -> str:
        """32 hex digits (128 bits) that identify the secret for one purpose without revealing it."""
        return hmac.new(purpose.encode(), self._text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._text.encode("utf-8", "surrogatepass"), other._text.encode("utf-8", "surrogatepass")
        )

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret cannot be pickled: its text would be written unencrypted")


def credential_fault(text: str) -> str | None:
    """The obvious fault of a credential, as the end of a sentence that does not contain it; None if there is none."""
    if text.lower().startswith(("bearer ", "basic ")):
        return "begins with an authentication scheme; set the key alone, without `Bearer`"
    if text[:1] in QUOTES or text[-1:] in QUOTES:
        return "begins or ends with a quote; set the key without quotes"
    if re.match(r"(export\s+)?[A-Z][A-Z0-9_]*_KEY(_\d+)?=", text):
        return "begins with a variable's name and `=`; set the key alone"
    if _PLACEHOLDER.fullmatch(text):
        return "is the placeholder of an example; set a real key, or remove the variable"
    return None
