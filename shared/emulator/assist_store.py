"""What the offline Gemini Enterprise keeps: conversations (sessions) with their context files. The oldest are dropped first."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass, field

_MAX_SESSIONS = 1_000


@dataclass(frozen=True, slots=True)
class StoredFile:
    """`data` is base64, as it was sent."""

    id: str
    name: str
    mime_type: str
    data: str = field(repr=False)
    generated: bool = False


@dataclass(slots=True)
class Session:
    """`name` is its full resource name. `questions`: how many the assistant was asked in it."""

    name: str
    owner: str
    files: dict[str, StoredFile] = field(default_factory=dict)
    questions: int = 0


class AssistStore:
    """The sessions of all owners, by the last part of their names."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._numbers = itertools.count(381265427528616266)

    def create(self, parent: str, owner: str) -> Session:
        number = str(next(self._numbers))
        session = self._sessions[number] = Session(f"{parent}/sessions/{number}", owner)
        if len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def find(self, name: str, owner: str) -> Session | None:
        """The owner's session with this name, full or relative; None for another owner's."""
        session = self._sessions.get(name.rpartition("/")[2])
        return session if session is not None and session.owner == owner and session.name.endswith(name) else None

    def file(self, number: str, file_id: str) -> StoredFile | None:
        """A file of any owner."""
        session = self._sessions.get(number)
        return None if session is None else session.files.get(file_id)

    def add_file(
        self, session: Session, name: str, mime_type: str, data: str, *, generated: bool = False
    ) -> StoredFile:
        file = StoredFile(str(next(self._numbers)), name, mime_type, data, generated)
        session.files[file.id] = file
        return file
