"""A ticket opens the stream of one turn: for a page whose EventSource can send neither a header nor a cookie.

URLs are logged, so a ticket opens nothing else, and soon expires: 60 s after it was made, or once it was used, 60 s after the end
of the turn, because an EventSource reconnects to the same URL. The store has its fingerprint only.
"""

from __future__ import annotations

import secrets

from shared.secret import Secret


def new_ticket(turn: str) -> str:
    return f"{turn}.{secrets.token_urlsafe(16)}"


def turn_of(ticket: str) -> str:
    """The id of the turn that the ticket says it opens; "" if it has no form of a ticket."""
    turn, _, random = ticket.rpartition(".")
    return turn if random else ""


def fingerprint_of(ticket: str) -> str:
    return Secret(ticket).fingerprint("ticket")
