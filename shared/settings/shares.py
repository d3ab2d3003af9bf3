"""What each kind of caller may have of what all of them share, as far as the settings decide it. Pure.

A share binds only where the other kind of caller exists: alone, each kind has all of it.
"""

from __future__ import annotations

from ipaddress import ip_address

from shared.settings.settings import Settings

MIN_FETCH_LIMIT = 14
"""As many addresses as one request may name (`image_inputs.MAX_INPUTS`)."""


def own_key_connections(settings: Settings) -> int | None:
    """Connections to Gemini that callers' own keys hold together at most: half; None where the server has no key itself."""
    return max(1, settings.max_connections // 2) if settings.server_keys else None


def fetch_limit(settings: Settings) -> int | None:
    """Addresses per minute that are fetched for one caller. One request may always name as many as it takes."""
    return None if settings.rate_limit is None else max(settings.rate_limit, MIN_FETCH_LIMIT)


def shares_day(settings: Settings) -> bool:
    """Whether anonymous callers have at most half of a day: where others can reach the server, and an admin key has the
    other half."""
    return bool(settings.admin_api_keys) and (settings.deployed or not _is_loopback(settings.host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
