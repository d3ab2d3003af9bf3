"""Builds the archive from which every function is deployed: `python -m functions.bundle [dist/bundle.zip]`.

The same sources give the same bytes on any machine, so that a deployment changes only what has changed: entries are sorted,
have the same date, and are not compressed (zlib's output differs between its versions).
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from shared.http.manifest import ManifestError, load_all
from shared.settings.settings import DISTRIBUTION

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path("dist/bundle.zip")
ENTRY_POINT = Path("functions/entry_point.py")
_DATE = (1980, 1, 1, 0, 0, 0)
_LOCAL_ONLY = {
    ENTRY_POINT,
    Path("functions/serve.py"),
    Path("functions/bundle.py"),
    Path("functions/scaffold.py"),
    Path("functions/check_config.py"),
    Path("shared/emulator"),
    Path("shared/parallel"),
}
_EXCLUDED_SUFFIXES = {".pyc", ".md"}


def build(root: Path, target: Path) -> Path:
    """Writes the archive of the checkout at `root`. Raises ManifestError for an invalid endpoint.json."""
    load_all(root / "functions")
    entries = dict([_metadata()])
    entries["main.py"] = (root / ENTRY_POINT).read_bytes()
    entries["requirements.txt"] = (root / "requirements.txt").read_bytes()
    for folder in ("functions", "shared"):
        for file in (root / folder).rglob("*"):
            path = file.relative_to(root)
            if file.is_file() and _deployed(path):
                entries[path.as_posix()] = file.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(entries.items()):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return target


def _deployed(path: Path) -> bool:
    if path.suffix in _EXCLUDED_SUFFIXES or any(part.startswith((".", "__pycache__")) for part in path.parts):
        return False
    return _LOCAL_ONLY.isdisjoint([path, *path.parents])


def _metadata() -> tuple[str, bytes]:
    """The metadata of an installed package, from which /health reads the version."""
    current = version(DISTRIBUTION)
    text = f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {current}\n"
    return f"{DISTRIBUTION.replace('-', '_')}-{current}.dist-info/METADATA", text.encode()


def main(arguments: Sequence[str]) -> int:
    try:
        target = build(ROOT, ROOT / (arguments[0] if arguments else TARGET))
    except ManifestError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{target} ({target.stat().st_size // 1024} KB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
