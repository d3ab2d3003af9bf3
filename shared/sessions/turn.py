"""One turn as the store keeps it while it is answered: `turns/<turn>`. Pure."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from shared.sessions.session import State


class Turn(NamedTuple):
    """Written with the message; its end goes into the session's page, and this entry expires soon afterwards."""

    owner: str
    """The session's owner, as a fingerprint."""
    session: str
    page: int
    number: int
    state: State = "pending"

    def pack(self) -> bytes:
        return orjson.dumps(self._asdict())

    @classmethod
    def unpack(cls, value: bytes) -> Turn:
        return cls(**orjson.loads(value))


def read_at(turn: Turn, now_ms: int) -> Turn:
    """The turn as it reads at the store's time `now_ms`."""
    return turn


def turn_key(turn: str) -> str:
    return f"turns/{turn}"
