"""The ids of tool calls. Pure.

Gemini rejects a conversation whose function calls come back without their thought signatures, and OpenAI's clients return
nothing of a tool call but its id, name and arguments. So an id leads to the signature in two ways:

    call_<24 hex digits>                           the key of the signature in the store
    call_<24 hex digits>_<checksum><signature>     the same, and the signature itself where it is short
    call_n<23 hex digits>                          no signature: of parallel calls only the first one has it

Clients cut ids: to 64 characters (the limit of OpenAI's Responses API and of Bedrock), to 40 (an older one of OpenAI's), to the
first 55 and a hash, or to the first 32 and the last 32. The key is in the first 32 characters, so that it survives each of
these; the checksum tells whether the signature did. An id has only characters that all of these services accept: letters,
digits, `_` and `-`.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error, a2b_base64, b2a_base64
from zlib import crc32

RANDOM_BYTES = 12
"""`new_call_id` takes so many random bytes as hex digits."""
MAX_ID_CHARS = 1024
"""A longer id is issued without the signature. Signatures of published conversations have 250 to 900 characters; one of several
thousand would be sent twice with each later turn of the conversation."""

_KEY = re.compile(r"call_[0-9a-f]{24}(?![0-9A-Za-z])")
_SIGNED = re.compile(r"call_[0-9a-f]{24}_([0-9a-f]{8})([0-9A-Za-z_-]+)")
_MAX_PREFIX_CHARS = 32
"""Clients put up to so many characters before an id of ours."""


def new_call_id(signature: str | None, random: str) -> str:
    """A new id. `signature`: the thought signature of the call, None if it has none; `random`: RANDOM_BYTES as hex digits."""
    if not signature:
        return f"call_n{random[1:]}"
    key = f"call_{random}"
    packed = _packed(signature)
    if packed is None:
        return key
    signed = f"{key}_{crc32(packed.encode()):08x}{packed}"
    return signed if len(signed) <= MAX_ID_CHARS else key


def key_of(call_id: str) -> str | None:
    """The part of an id that survives a cut. None for an id without a signature, for one that is not ours, and for one that was
    cut to fewer characters."""
    found = _KEY.search(call_id, 0, _MAX_PREFIX_CHARS + MAX_ID_CHARS)
    return found[0] if found is not None and found.start() <= _MAX_PREFIX_CHARS else None


def signature_in(call_id: str) -> str | None:
    """The thought signature in an id; None if it has none, or was cut."""
    found = _SIGNED.search(call_id, 0, _MAX_PREFIX_CHARS + MAX_ID_CHARS)
    if found is None or int(found[1], 16) != crc32(found[2].encode()) or len(found[2]) % 4 == 1:
        return None
    return b2a_base64(urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4)), newline=False).decode()


def _packed(signature: str) -> str | None:
    """A signature in the characters of an id. None for one that `signature_in` would not return unchanged: Gemini sends base64,
    but a proxy may send anything."""
    try:
        data = a2b_base64(signature, strict_mode=True)
    except (Error, ValueError):
        return None
    if b2a_base64(data, newline=False).decode() != signature:
        return None
    return urlsafe_b64encode(data).decode().rstrip("=")
