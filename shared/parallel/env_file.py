"""The environment with the first `.env` file that is found: in the working directory, its parents, then beside the script."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values

NAME = ".env"


class Read(NamedTuple):
    values: Mapping[str, str]
    """The environment's variables, which come first, and those of the file."""
    looked: tuple[Path, ...]
    """The folders in which a file was looked for."""
    found: Path | None


def read_environment() -> Read:
    """Reads the file anew: it may have changed since the last call."""
    looked: list[Path] = []
    for folder in _folders():
        looked.append(folder)
        path = folder / NAME
        if path.is_file():
            values = {name: value for name, value in dotenv_values(path).items() if value is not None}
            return Read({**values, **os.environ}, tuple(looked), path)
    return Read(dict(os.environ), tuple(looked), None)


def _folders() -> list[Path]:
    here = Path.cwd()
    folders = [here, *here.parents]
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is not None:
        beside = Path(main).resolve().parent
        folders += [beside] if beside not in folders else []
    return folders
