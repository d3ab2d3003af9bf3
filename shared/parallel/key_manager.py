"""The keys of a program: where they are from, their states, and the engine that uses them."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .env_file import Read, read_environment
from .keys import Keys, admin_key, read_keys
from .ledger_place import default_ledger_url
from .loop_thread import LoopThread

if TYPE_CHECKING:
    from shared.batch.backend import Backend
    from shared.settings.settings import Settings

DEFAULT_REQUEST_TIMEOUT_S = 600
_SERVER_ONLY = ("ADMIN_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "GEMINI_PROJECTS", "ACCOUNTS_FILE", "K_SERVICE")


class AdvancedApiKeyManager:
    """Keys named by environment variables. The variables may be in a `.env` file in the working directory, one of its parents, or
    beside the script.

    The limits of a key are counted in a ledger that all programs on this machine share (`ledger`: another one, like
    `firestore://project/database` to share the limits of a deployed gateway). With `gateway` (`https://...`) the prompts are sent
    to a gateway, whose own keys serve where ADMIN_API_KEY is set."""

    def __init__(
        self,
        keylist_names: Sequence[str] | str,
        key_cooldown_seconds: float = 60,
        exhausted_wait_seconds: float = 60,
        fully_exhausted_wait_seconds: float = 43_200,
        max_exhausted_retries: int = 3,
        *,
        ledger: str | None = None,
        gateway: str | None = None,
    ) -> None:
        """Raises ValueError if no key can be used, or an argument is wrong."""
        self.keylist_names = [keylist_names] if isinstance(keylist_names, str) else list(keylist_names)
        self.gateway = gateway
        read = read_environment()
        self._environment = {
            "REQUEST_TIMEOUT_SECONDS": str(DEFAULT_REQUEST_TIMEOUT_S),
            "LEDGER_URL": default_ledger_url(read.values) if ledger is None else ledger,
            **read.values,
            "KEY_COOLDOWN_SECONDS": _number("key_cooldown_seconds", key_cooldown_seconds, 0, 3600),
            "EXHAUSTED_WAIT_SECONDS": _number("exhausted_wait_seconds", exhausted_wait_seconds, 1, 2_678_400),
            "FULLY_EXHAUSTED_WAIT_SECONDS": _number(
                "fully_exhausted_wait_seconds", fully_exhausted_wait_seconds, 1, 2_678_400
            ),
            "MAX_EXHAUSTED_RETRIES": _number("max_exhausted_retries", int(max_exhausted_retries), 1, 1_000),
        }
        if ledger is not None:
            self._environment["LEDGER_URL"] = ledger
        self.keys = read_keys(self.keylist_names, read.values)
        self.admin_key = admin_key(read.values) if gateway is not None else None
        if not self.keys.found and self.admin_key is None:
            raise ValueError(_no_keys(self.keylist_names, self.keys, read))
        self.settings = self._settings()
        self.thread = LoopThread("gemini_parallel")
        self._backend: Backend | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop that the backend is bound to: a child of a fork makes one of its own."""
        self._making = threading.Lock()

    def get_keys_status_summary(self) -> dict[str, dict[str, Any]]:
        """By the variable's name: `status` (AVAILABLE, COOLDOWN, TEMPORARILY_EXHAUSTED, FULLY_EXHAUSTED, FAILED_INIT),
        `exhausted_count` (rejections in a row), `until` (Unix seconds or None), `why`, and `models` with the states of single
        models. It has no key."""
        return self.thread.call(self.backend().states())

    def close(self) -> None:
        """Returns what is held of the limits, and ends the thread. The next call starts anew."""
        with self._making:
            backend, self._backend = self._backend, None
            _open.discard(self)
            bound = self.thread.is_running and self.thread.loop is self._loop
        if backend is not None and bound:
            self.thread.call(backend.aclose())
        self.thread.stop()

    def __repr__(self) -> str:
        return f"AdvancedApiKeyManager({', '.join(self.keylist_names)})"

    def backend(self) -> Backend:
        """What answers prompts, on the loop of `thread`; made at the first call of that loop."""
        with self._making:
            loop = self.thread.loop
            if self._backend is None or self._loop is not loop:
                self._backend, self._loop = self.new_backend(), loop
                _open.add(self)
            return self._backend

    def new_backend(self) -> Backend:
        """A backend for the loop that uses it first. Its owner closes it."""
        if self.gateway is None:
            from .direct import DirectBackend

            return DirectBackend(self)
        from .remote import RemoteBackend

        return RemoteBackend(self)

    def _settings(self) -> Settings:
        from shared.settings.environment import SettingsError
        from shared.settings.settings import Settings

        own = {
            name: value
            for name, value in self._environment.items()
            if name not in _SERVER_ONLY and not name.startswith("GEMINI_API_KEY_")
        }
        try:
            return Settings.from_environment(own)
        except SettingsError as error:
            raise ValueError(str(error)) from None


_open: set[AdvancedApiKeyManager] = set()
"""Managers that may hold permits of a ledger: they are returned before the program ends."""


@atexit.register
def _close_all() -> None:
    for manager in list(_open):
        manager.close()


def _number(name: str, value: float, minimum: float, maximum: float) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum:
        raise ValueError(f"{name} is {value!r}; it must be a number from {minimum:g} to {maximum:g}.")
    return str(int(value)) if float(value).is_integer() else str(float(value))


def _no_keys(names: Sequence[str], keys: Keys, read: Read) -> str:
    if keys.failed:
        why = " ".join(f"Failed to initialize client for {name}: {reason}" for name, reason in keys.failed.items())
        return f"No valid API keys found. {why}"
    shown = ", ".join(names) or "no names"
    where = ", ".join(str(folder) for folder in read.looked)
    file = f"and in {read.found}" if read.found else f"and for a file .env in {where}"
    return (
        f"No valid API keys found. Looked for {shown} in the environment {file}. Set one of these variables to a Gemini API key "
        "from https://aistudio.google.com/apikey."
    )
