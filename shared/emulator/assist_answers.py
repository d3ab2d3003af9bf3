"""An answer as the assistant of Gemini Enterprise streams it: StreamAssistResponses, of which the last one has a final state."""

from __future__ import annotations

import base64
from typing import Any

from .answers import Answer, Candidate
from .assist_store import AssistStore, Session

_PIECE_CHARS = 40

Document = dict[str, Any]


def documents_of(answer: Answer, session: Session, store: AssistStore) -> list[Document]:
    """The documents of an answer. A drawn image becomes a file of the session."""
    token = {"assistToken": f"NMwKDAj{session.name.rpartition('/')[2]}"}
    info = {"sessionInfo": {"session": session.name}}
    candidate = answer.candidates[0] if answer.candidates else None
    if candidate is None or candidate.blocked:
        skipped = {"state": "SKIPPED", "assistSkippedReasons": ["CUSTOMER_POLICY_VIOLATION"]}
        return [{"answer": skipped, **info, **token}]
    replies = [_reply(content) for content in _contents(candidate, session, store)]
    documents: list[Document] = [{"answer": {"state": "IN_PROGRESS", "replies": [reply]}, **token} for reply in replies]
    # Google sends documents without an answer too, while the assistant works.
    ended = {"name": f"{session.name}/assistAnswers/1", "state": "SUCCEEDED"}
    return [dict(token), *documents, {"answer": ended, **info, **token}]


def _contents(candidate: Candidate, session: Session, store: AssistStore) -> list[Document]:
    contents: list[Document] = []
    if candidate.thought:
        contents.append({"text": candidate.thought, "thought": True})
    text = candidate.text
    contents += [{"text": text[at : at + _PIECE_CHARS]} for at in range(0, len(text), _PIECE_CHARS)]
    if candidate.image is not None:
        image = candidate.image
        data = base64.b64encode(image.data).decode()
        name = f"generated.{image.mime_type.rpartition('/')[2]}"
        file = store.add_file(session, name, image.mime_type, data, generated=True)
        contents.append({"file": {"fileId": file.id, "mimeType": image.mime_type, "name": name}})
    return contents


def _reply(content: Document) -> Document:
    return {"groundedContent": {"content": {"role": "model", **content}}}
