"""Which accounts can answer a request at all, by their kind. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.accounts.account import Account
from shared.errors import BadRequest
from shared.gemini.models import Resolved, is_stand_in, makes_image

ASSISTANTS = {"enterprise": False, "enterprise_session": True}
"""Kind of an account that answers with the assistant of Gemini Enterprise -> whether it returns images."""


def served_model(resolved: Resolved, candidates: Sequence[Account]) -> str:
    """The model that a request for a stand-in is counted and sent under: the assistant of Gemini Enterprise where one of the
    accounts has it, else the chat model."""
    has_assistant = any(account.kind in ASSISTANTS for account in candidates)
    return resolved.requested if has_assistant else resolved.canonical


def able(candidates: list[Account], model: str, message: Mapping[str, Any]) -> list[Account]:
    """The accounts that can answer the request; all of them where no assistant is asked for or there. Raises BadRequest if none
    can."""
    kinds = {account.kind for account in candidates}
    if kinds.isdisjoint(ASSISTANTS) and not is_stand_in(model):
        return candidates
    missing = {kind: _missing(kind, model, message) for kind in sorted(kinds)}
    left = [account for account in candidates if missing[account.kind] is None]
    if not left:
        lacks = "; ".join(f"an account of the kind {kind} has no {what}" for kind, what in missing.items())
        raise BadRequest(
            f"No account of this server can answer this request: {lacks}. Leave it out, or send a Gemini API key of your own."
        )
    return left


def embedding(candidates: list[Account]) -> list[Account]:
    """The accounts that can make embeddings: those of the Gemini API. Raises BadRequest if there are only others."""
    left = [account for account in candidates if account.kind == "api_key"]
    if candidates and not left:
        kinds = ", ".join(sorted({account.kind for account in candidates}))
        raise BadRequest(
            f"No account of this server can make embeddings: its accounts are of the kind {kinds}, and embeddings need a Gemini "
            "API key. Send a Gemini API key of your own."
        )
    return left


def _missing(kind: str, model: str, message: Mapping[str, Any]) -> str | None:
    image_output = ASSISTANTS.get(kind)
    if image_output is None:
        return f"assistant ({model})" if is_stand_in(model) else None
    if not image_output and makes_image(model, message):
        return "image output"
    # A deployment without such accounts does not load the translation.
    from shared.gemini.enterprise_format import missing_ability

    return missing_ability(message, image_output=image_output)
