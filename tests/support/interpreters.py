"""Other versions of Python on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def interpreter(version: str) -> str | None:
    """An interpreter of this version, like "3.13": the one that runs here, one on PATH, or one of pyenv's."""
    for candidate in _candidates(version):
        command = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        # pyenv's shim of a version that is not selected is on PATH, and fails.
        if done.stdout.strip() == version:
            return candidate
    return None


def _candidates(version: str) -> Iterator[str]:
    yield sys.executable
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    yield from (str(one) for one in sorted(pyenv.glob(f"versions/{version}.*/bin/python")))
