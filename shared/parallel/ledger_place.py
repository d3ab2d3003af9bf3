"""Where the programs of one user keep their ledger."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import PurePath

FOLDER, FILE = "gemini_parallel", "ledger.db"


def default_ledger_url(environment: Mapping[str, str], platform: str = sys.platform) -> str:
    """A file in the folder for a user's state: one ledger for all programs of the user on this machine."""
    home = environment.get("HOME") or environment.get("USERPROFILE") or "."
    if platform == "win32":
        state = environment.get("LOCALAPPDATA") or PurePath(home, "AppData", "Local")
    elif platform == "darwin":
        state = PurePath(home, "Library", "Application Support")
    else:
        state = environment.get("XDG_STATE_HOME") or PurePath(home, ".local", "state")
    return f"sqlite:///{PurePath(state, FOLDER, FILE).as_posix()}"
