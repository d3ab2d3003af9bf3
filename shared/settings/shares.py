"""Shares of the resources that different kinds of callers use together, as far as the settings decide them. Pure.

A share binds only where the other kind of caller exists; otherwise a kind may use everything.
"""

from __future__ import annotations

from ipaddress import ip_address

from shared.settings.settings import Settings

MIN_FETCH_LIMIT = 14
"""The number of addresses that one request may name (`images.choices.MAX_INPUTS`)."""
MAX_UPLOADED_MB = 1024
UPLOAD_WINDOW_S = 86_400.0
MAX_STORED_MESSAGES = 4096
"""Messages of MESSAGE_UNIT_BYTES; a longer one counts several times."""
MESSAGE_UNIT_BYTES = 16 * 1024
MESSAGES_WINDOW_S = 86_400.0


def caller_key_connections(settings: Settings) -> int | None:
    """The most connections to Gemini that callers' own keys may hold together: half; None if the server has no key."""
    return max(1, settings.max_connections // 2) if settings.has_accounts else None


def strangers_bytes(settings: Settings, total_bytes: int) -> int | None:
    """The most bytes of bodies that callers without an admin key may hold together: half; None if nobody has an admin key, or
    the server has no account."""
    return total_bytes // 2 if settings.admin_api_keys and settings.has_accounts else None


def fetch_limit(settings: Settings) -> int | None:
    """Addresses per minute that are fetched for one caller: at least as many as one request may name. None: unlimited."""
    return None if settings.rate_limit is None else max(settings.rate_limit, MIN_FETCH_LIMIT)


def upload_limit(settings: Settings) -> int | None:
    """Megabytes that one caller without an admin key may upload within a day, since anybody can invent keys. None: unlimited,
    as on a loopback address."""
    return MAX_UPLOADED_MB if _limits_strangers(settings) else None


def message_limit(settings: Settings) -> int | None:
    """Messages that one caller whom nobody knows may store within a day: 64 MB. None: unlimited, as on a loopback address."""
    return MAX_STORED_MESSAGES if _limits_strangers(settings) else None


def shares_day(settings: Settings) -> bool:
    """Whether anonymous callers may use at most half of a day: if others can reach the server, and there is an admin key for
    the other half."""
    return bool(settings.admin_api_keys) and (settings.deployed or not _is_loopback(settings.host))


def _limits_strangers(settings: Settings) -> bool:
    reachable = settings.deployed or not _is_loopback(settings.host)
    return reachable and settings.rate_limit is not None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
