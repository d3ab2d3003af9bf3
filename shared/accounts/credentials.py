"""What the secret of each kind of account must be, and what may be shown of it. Pure.

An error names the field that is wrong and never repeats a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from shared.accounts.account import Kind
from shared.errors import BadRequest
from shared.secret import Secret

MAX_SECRET_CHARS = 12_000
_MIN_SHOWN_CHARS = 16
"""Of a shorter secret, four characters would be too large a part."""
_KEY = re.compile(r"[\x21-\x7e]{10,4096}")
_COOKIE = re.compile(r"[\x21-\x7e]{10,4096}")
_SERVICE_ACCOUNT = ("client_email", "private_key", "token_uri")
_SESSION = ("secure_c_ses", "host_c_oses")


def checked(kind: Kind, secret: Secret) -> Secret:
    """`secret`, if it can be the credential of an account of this kind. Raises BadRequest."""
    text = secret.reveal()
    if len(text) > MAX_SECRET_CHARS:
        raise _invalid(f"has more than {MAX_SECRET_CHARS} characters")
    if kind == "api_key":
        if not _KEY.fullmatch(text):
            raise _invalid("must be a Gemini API key: 10 to 4096 printable ASCII characters without spaces")
        return secret
    fields = _object(text)
    if kind == "enterprise_session":
        if any(not isinstance(fields.get(name), str) or not _COOKIE.fullmatch(fields[name]) for name in _SESSION):
            raise _invalid(f"must have {' and '.join(_SESSION)}: the two cookies of a signed-in session")
    elif fields.get("type") != "adc":
        missing = [name for name in _SERVICE_ACCOUNT if not isinstance(fields.get(name), str) or not fields[name]]
        if fields.get("type") != "service_account" or missing:
            raise _invalid(
                "must be the JSON file of a service account key"
                + (f" with {', '.join(missing)}" if missing else ', whose type is "service_account"')
                + ', or {"type": "adc"} for Application Default Credentials'
            )
    return secret


def last4(kind: Kind, secret: Secret) -> str:
    """The characters by which a person recognizes the secret: its last four; of a service account, those of its key's id."""
    text = secret.reveal()
    if kind != "api_key":
        fields = _object(text)
        shown = fields.get("secure_c_ses" if kind == "enterprise_session" else "private_key_id", "")
        text = shown if isinstance(shown, str) else ""
    return text[-4:] if len(text) >= _MIN_SHOWN_CHARS and text[-4:].isprintable() else ""


def place_in(kind: Kind, secret: Secret) -> Mapping[str, str]:
    """What the secret itself says of the account's place: a service account names its project."""
    if kind not in ("vertex", "enterprise"):
        return {}
    project = _object(secret.reveal()).get("project_id")
    return {"project": project} if isinstance(project, str) else {}


def _object(text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise _invalid("must be a JSON object")
    return found


def _invalid(what: str) -> BadRequest:
    return BadRequest(f"The account's secret {what}.", field="secret")
