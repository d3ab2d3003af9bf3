"""A string that is never shown: not by repr, str or format, nor in a log line or an error."""

from __future__ import annotations

import hashlib
import hmac


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
        ours, theirs = (s._text.encode("utf-8", "surrogatepass") for s in (self, other))
        return hmac.compare_digest(ours, theirs)

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
