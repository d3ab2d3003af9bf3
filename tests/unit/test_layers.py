"""Which package may import which: an arrow that is not listed here does not exist."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VALUES = {
    "shared.errors",
    "shared.generation",
    "shared.secret",
    "shared.clock",
    "shared.byte_budget",
    "shared.json_structure",
    "shared.large_work",
}

ALLOWED: dict[str, set[str]] = {
    "shared/ledger": {"shared.ledger", *VALUES},
    "shared/stores": {"shared.stores", *VALUES},
    "shared/accounts": {"shared.accounts", "shared.ledger.limits", *VALUES},
    "shared/admission": {
        "shared.admission",
        "shared.accounts.account",
        "shared.ledger",
        "shared.stopped",
        "shared.stores.port",
        *VALUES,
    },
    "shared/media": {"shared.media", *VALUES},
    "shared/gemini": {"shared.gemini", *VALUES},
    "shared/emulator": {"shared.emulator"},
    "shared/stopped.py": {"shared.ledger", *VALUES},
    "shared/refusal.py": {"shared.gemini.errors", "shared.ledger", "shared.stopped", *VALUES},
    "shared/day_share.py": {"shared.accounts", "shared.admission", "shared.ledger", "shared.stores.port", *VALUES},
    "shared/gateway.py": {
        "shared.accounts",
        "shared.admission",
        "shared.day_share",
        "shared.gemini",
        "shared.refusal",
        "shared.request_bodies",
        "shared.stream_reply",
        *VALUES,
    },
    "shared/request_bodies.py": {"shared.gemini.encoding", *VALUES},
    "shared/stream_reply.py": {"shared.admission", "shared.gemini", *VALUES},
}
"""Package or module -> the shared modules (by prefix) that it may import."""

PURE = (
    "shared/ledger",
    "shared/generation.py",
    "shared/errors.py",
    "shared/byte_budget.py",
    "shared/json_structure.py",
    "shared/refusal.py",
    "shared/stopped.py",
    "shared/gemini/errors.py",
    "shared/gemini/error_body.py",
    "shared/gemini/quotas.py",
    "shared/gemini/delays.py",
    "shared/gemini/account_trouble.py",
    "shared/gemini/consumer.py",
    "shared/gemini/redaction.py",
    "shared/openapi.py",
    "shared/openapi_components.py",
)
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


@pytest.mark.parametrize("where", ALLOWED)
def test_a_package_imports_only_what_lies_below_it(where: str) -> None:
    for path in sources(where):
        for name in imports(path):
            # `python -m shared.ledger` only hands over to the command, which is no part of the package.
            if path.name == "__main__.py" and name.startswith("shared.ledger_command."):
                continue
            if name.split(".")[0] in ("shared", "functions", "tests"):
                known = any(name == prefix or name.startswith(f"{prefix}.") for prefix in ALLOWED[where])
                assert known, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("where", PURE)
def test_what_is_pure_imports_no_io(where: str) -> None:
    for path in sources(where):
        assert not {name.split(".")[0] for name in imports(path)} & IO, path


def test_nothing_shared_imports_a_function_and_nothing_bundled_imports_the_emulator() -> None:
    for path in sources("shared"):
        names = set(imports(path))
        assert not any(name.split(".")[0] == "functions" for name in names), path
        if "emulator" not in path.parts:
            assert not any(name.startswith("shared.emulator") for name in names), path


def test_only_the_wiring_names_concrete_stores() -> None:
    for path in sources("shared"):
        # The operator's command works on the store itself, without the services that bootstrap wires.
        if path.name not in ("bootstrap.py", "ledger_command.py") and "stores" not in path.parts:
            concrete = [
                n for n in imports(path) if n.startswith("shared.stores") and not n.startswith("shared.stores.port")
            ]
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
def test_importing_a_function_does_no_work_and_loads_nothing_heavy(name: str) -> None:
    """The module is imported before the server forks: clients, and what makes them, come with the first request. pydantic
    is loaded where bodies are read with it, and not where they are only described."""
    reads_with_models = f"functions.{name}.models.Request" in imports(ROOT / "functions" / name / "main.py")
    late = [*HEAVY, *([] if reads_with_models else ["pydantic", f"functions.{name}.models"])]
    code = f"import sys, functions.{name}.main; print([m for m in {late!r} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert loaded.stdout.strip() == "[]"


def test_the_firestore_libraries_are_loaded_only_for_a_firestore_ledger() -> None:
    code = "import sys, shared.bootstrap; print('grpc' in sys.modules or 'google.cloud.firestore_v1' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert loaded.stdout.strip() == "False"
