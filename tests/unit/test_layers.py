"""Which package may import which: an arrow that is not listed here does not exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STONES = {"errors", "clock", "secret", "generation"}

ALLOWED: dict[str, set[str]] = {
    # The engine
    "bounds": set(),
    "ledger": set(),
    "stores": set(),
    "media": set(),
    "gemini": {"bounds"},
    "accounts": {"bounds", "ledger", "stores.port"},
    "admission": {"accounts", "ledger", "stores.port"},
    "gateway": {"accounts", "admission", "bounds", "gemini", "ledger", "stores.port"},
    # The edge
    "settings": {"gemini", "ledger", "media.location", "stores.url"},
    "auth": {"settings", "stores.port"},
    "telemetry": {"settings"},
    "http": {"auth", "bootstrap", "bounds", "files", "gateway", "gemini", "media", "settings", "telemetry"},
    "openapi": {"gemini", "http", "settings"},
    "configuration": {"accounts", "bounds", "gemini", "settings", "stores.port"},
    # What is made
    "chat": {"gateway.stream_reply", "gemini", "http"},
    "files": {"media", "stores.port"},
    "structured": {"bounds", "gateway.generator", "gemini"},
    "images": {"bounds", "gateway.generator", "gemini", "media"},
    "batch": {"bounds", "gateway", "gemini", "media", "stores.port", "structured"},
    "openai_format": {
        "bounds.json_structure", "chat.generation_config", "files.record", "gemini", "http.bodies", "images.choices",
        "media.base64_text", "media.image_file", "media.input_image", "structured.json_schema",
    },
    "openai_api": {
        "accounts", "auth", "bounds", "files", "gateway", "gemini", "http", "images", "media", "openai_format",
        "openapi.operation", "ops", "settings", "stores.port", "structured",
    },
    "sessions": {
        "auth", "bootstrap", "bounds", "chat", "files", "gateway", "gemini", "http", "media", "openapi.operation", "settings",
        "stores.port", "telemetry",
    },
    # What an operator sees
    "ops": {"accounts", "admission", "bounds", "configuration", "gemini", "ledger", "settings", "stores"},
    # The wiring
    "engine": {
        "accounts", "admission", "auth.credentials", "bounds", "gateway", "gemini", "ledger", "settings", "stores",
    },
    "bootstrap": {
        "accounts", "auth", "configuration", "engine", "files", "gateway", "gemini", "ledger", "media", "ops", "settings",
        "stores", "telemetry",
    },
    # Not in the bundle
    "emulator": set(),
    "parallel": {
        "accounts", "admission", "batch", "bounds", "engine", "gateway", "gemini", "ledger", "media", "settings", "stores.port",
        "structured",
    },
}  # fmt: skip
"""Package (or the wiring) -> what of `shared` it may import beside itself and the stones. A package is added here with its
row: an arrow that is not listed does not exist."""

MAY_IMPORT = {"generation": {"bounds.byte_budget", "bounds.pace"}}
"""What a stone imports beside other stones."""

PURE = (
    "shared/ledger",
    "shared/errors.py",
    "shared/media/location.py",
    "shared/admission/holdings.py",
    "shared/admission/ledger_document.py",
    "shared/gemini/delays.py",
    "shared/openapi",
)
"""Pure packages and modules, besides modules whose docstring says "Pure."."""
IO = {
    "asyncio",
    "socket",
    "sqlite3",
    "aiohttp",
    "grpc",
    "google",
    "os",
    "pathlib",
    "time",
    "random",
    "threading",
    "logging",
}
OUR_IO = ("shared.clock.",)
"""Modules of ours that do I/O for others: a pure function takes the time as an argument."""


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(where: str) -> list[Path]:
    path = ROOT / where
    found = [path] if path.suffix else sorted(path.rglob("*.py"))
    assert found, f"{where} has no modules; correct its name here"
    return found


def rooms() -> set[str]:
    """The packages and modules at the root of `shared`."""
    return {
        path.stem for path in (ROOT / "shared").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }


def test_every_package_has_a_row() -> None:
    assert rooms() - {"__init__"} == STONES | ALLOWED.keys()


@pytest.mark.parametrize("room", sorted(STONES | ALLOWED.keys()))
def test_imports_follow_the_rows(room: str) -> None:
    folder = ROOT / "shared" / room
    allowed = {room, *STONES, *ALLOWED.get(room, set()), *MAY_IMPORT.get(room, set())}
    for path in sources(f"shared/{room}" if folder.is_dir() else f"shared/{room}.py"):
        for name in imports(path):
            # `python -m shared.ledger` only hands over to the command, which is no part of the package.
            if path.name == "__main__.py" and name.startswith(("shared.ops.", "shared.bootstrap.")):
                continue
            if name.split(".")[0] in ("shared", "functions", "tests"):
                inner = name.removeprefix("shared.")
                assert any(inner == one or inner.startswith(f"{one}.") for one in allowed), (
                    f"{path.relative_to(ROOT)} imports {name}"
                )


def test_no_circle_between_packages() -> None:
    reaches = {room: {one.split(".")[0] for one in row} for room, row in ALLOWED.items()}
    free: set[str] = set()
    while left := reaches.keys() - free:
        # The edge asks the wiring for its services only when the first request comes.
        done = {room for room in left if reaches[room] - {"bootstrap"} <= free}
        assert done, f"a circle among {sorted(left)}"
        free |= done


def calls_itself_pure(path: Path) -> bool:
    """Whether the first paragraph of the module's docstring has the sentence "Pure."."""
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
    return first.replace("\n", " ").endswith(" Pure.") and "emulator" not in path.parts


def test_pure_modules_import_no_io() -> None:
    """Whether PURE lists them or their docstring says so."""
    listed = {path for where in PURE for path in sources(where)}
    declared = {path for path in sources("shared") if calls_itself_pure(path)}
    assert len(declared) > 40
    for path in sorted(listed | declared):
        found = [name for name in imports(path) if name.split(".")[0] in IO or f"{name}.".startswith(OUR_IO)]
        assert not found, f"{path.relative_to(ROOT)} imports {', '.join(found)}"


def test_shared_imports_no_function_and_no_emulator() -> None:
    for path in sources("shared"):
        names = set(imports(path))
        assert not any(name.split(".")[0] == "functions" for name in names), path
        if "emulator" not in path.parts:
            assert not any(name.startswith("shared.emulator") for name in names), path


def test_only_the_wiring_names_concrete_stores() -> None:
    """A URL may be parsed anywhere: `stores.url` imports a concrete store only when it opens one."""
    for path in sources("shared"):
        # The operator's command works on the store itself, without the services that bootstrap wires.
        if path.name not in ("bootstrap.py", "engine.py", "ledger_command.py") and "stores" not in path.parts:
            abstract = ("shared.stores.port", "shared.stores.url.parse_store_url")
            concrete = [n for n in imports(path) if n.startswith("shared.stores") and not n.startswith(abstract)]
            assert not concrete, f"{path} imports {concrete}"


HEAVY = (
    "google.cloud.firestore_v1",
    "google.genai",
    "grpc",
    "aiohttp",
    "jsonschema",
    "sqlite3",
    "obstore",
    "PIL",
    "shared.bootstrap",
)


@pytest.mark.parametrize("name", sorted(p.parent.name for p in (ROOT / "functions").glob("*/endpoint.json")))
def test_importing_a_function_loads_nothing_heavy(name: str) -> None:
    """The module is imported before the server forks: clients, and what makes them, come with the first request. pydantic
    is loaded where bodies are read with it, and not where they are only described."""
    reads_with_models = f"functions.{name}.models.Request" in imports(ROOT / "functions" / name / "main.py")
    late = [*HEAVY, *([] if reads_with_models else ["pydantic", f"functions.{name}.models"])]
    code = f"import sys, functions.{name}.main; print([m for m in {late!r} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert loaded.stdout.strip() == "[]"


def test_firestore_libraries_are_loaded_on_demand() -> None:
    code = "import sys, shared.bootstrap; print('grpc' in sys.modules or 'google.cloud.firestore_v1' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert loaded.stdout.strip() == "False"


def test_what_few_requests_need_is_loaded_on_demand() -> None:
    """A deployment with API keys pays nothing at its start for other kinds of accounts, nor for large files."""
    late = (
        "google.auth",
        "requests",
        "shared.gemini.vertex",
        "shared.gemini.oauth",
        "shared.gemini.minting",
        "shared.gemini.file_uploads",
        "shared.gateway.file_copies",
        "shared.gateway.file_placement",
    )
    code = f"import sys, shared.bootstrap; print([m for m in {late!r} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert loaded.stdout.strip() == "[]"


def _drawing() -> list[str]:
    return (ROOT / "shared" / "README.md").read_text().split("```")[1].splitlines()


def test_readme_draws_every_room_once_above_its_imports() -> None:
    """shared/README.md: a room stands on one line of the drawing, and what it imports on lines below."""
    rows = {name.split(".")[0] for name in ALLOWED} | STONES
    lines = {
        word: number for number, line in enumerate(_drawing()) for word in re.split(r"\s{2,}", line) if word in rows
    }
    assert lines.keys() == rows
    for room, row in ALLOWED.items():
        below = STONES | {name.split(".")[0] for name in row}
        assert not [name for name in below if room != "emulator" and lines[name] <= lines[room]], room


def test_readme_names_existing_modules() -> None:
    """A module that moves takes its mentions in shared/README.md along."""
    text = (ROOT / "shared" / "README.md").read_text()
    named = list(re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:/|\.py))`", text))
    assert len(named) > 40
    missing = [name for name in named if not ((ROOT / "shared" / name).exists() or (ROOT / name).exists())]
    assert not missing


def test_every_package_says_what_it_is_for_and_when_it_changes() -> None:
    for path in (ROOT / "shared").glob("*/__init__.py"):
        first = path.read_text().splitlines()[0]
        assert first.startswith('"""') and " changes " in first, path
