"""The old program's file, with secrets that must appear nowhere."""

from __future__ import annotations

from typing import Any

COOKIE, HOST_COOKIE = "CSE.planted-secure-cookie", "COS.planted-host-cookie"
PROXY = "http://user:planted-password@proxy.example:3128"
TOKEN = "planted-token-of-the-old-program"


def account(**changed: Any) -> dict[str, Any]:
    return {
        "team_id": "3f0a9a62-team",
        "secure_c_ses": COOKIE,
        "host_c_oses": HOST_COOKIE,
        "csesidx": "1234567890",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
        "available": True,
        **changed,
    }


def model(**changed: Any) -> dict[str, Any]:
    return {
        "id": "gemini-enterprise",
        "name": "Gemini Enterprise",
        "description": "of the first seat",
        "context_length": 32768,
        "max_tokens": 8192,
        "price_per_1k_tokens": 0.0015,
        "enabled": True,
        "account_index": 0,
        **changed,
    }


def document(**changed: Any) -> dict[str, Any]:
    return {
        "proxy": PROXY,
        "proxy_enabled": True,
        "accounts": [account(note="mine"), account(csesidx="2", available=False, jwt=TOKEN)],
        "models": [model(tags=["fast"]), model(id="gemini-enterprise-2", account_index=1)],
        "log_level": "INFO",
        "api_tokens": [TOKEN],
        **changed,
    }
