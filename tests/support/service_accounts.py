"""Service accounts as Google hands them out: a JSON file with a private key. And accounts of the kind `vertex` that use them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from shared.accounts.account import Account
from shared.ledger.limits import Limits
from shared.secret import Secret

PROJECT = "a-project"
EMAIL = "gateway@a-project.iam.gserviceaccount.com"
DISABLED = "disabled@a-project.iam.gserviceaccount.com"
"""The offline Gemini gives it no token."""


@cache
def _key(number: int) -> RSAPrivateKey:
    """One key per number and process: making one takes 0.1 s."""
    return generate_private_key(public_exponent=65_537, key_size=2048)


def private_key(number: int = 0) -> str:
    return _key(number).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_key(number: int = 0) -> str:
    return _key(number).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def known_service_accounts() -> dict[str, str]:
    """The accounts that the offline Gemini is to know."""
    return dict.fromkeys((EMAIL, DISABLED), public_key())


def service_account(email: str = EMAIL, *, key: int = 0, **fields: Any) -> str:
    """The JSON file. `fields` replace those of the file; its token_uri is nobody's."""
    return json.dumps(
        {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "0123456789abcdef0123456789abcdef01234567",
            "private_key": private_key(key),
            "client_email": email,
            "client_id": "100000000000000000000",
            "token_uri": "https://tokens.invalid/token",
            "universe_domain": "googleapis.com",
            **fields,
        }
    )


def vertex_account(
    project: str = PROJECT,
    *,
    email: str = EMAIL,
    key: int = 0,
    location: str = "global",
    limits: Limits | None = None,
    concurrency: int = 15,
    name: str = "vertex-1",
) -> Account:
    return Account(
        id=name,
        ledger_id=f"vertex-{project}",
        credential=Secret(service_account(email, key=key)),
        concurrency=concurrency,
        limits=limits or Limits(),
        kind="vertex",
        place={"project": project, "location": location},
    )
