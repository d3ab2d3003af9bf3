"""Whose stored things a request may see."""

from __future__ import annotations

from shared.http.call import Call


def owner_of(call: Call) -> str:
    """The owner of files and sessions: one credential. Callers that share an admin key are told apart by x-caller-id, but
    not by the body's `user`, which an upload does not have; and all admin keys are one owner, so that a key can be replaced."""
    if call.caller.kind == "admin" and "x-caller-id" not in call.headers:
        return "admin"
    return call.caller.id
