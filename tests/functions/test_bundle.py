"""The archive that every function is deployed from, unpacked where the checkout cannot be seen."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path

import pytest

from functions.bundle import build
from functions.console.assets import NAMES as NAMES_OF_ASSETS
from shared.emulator import EmulatorConfig, running
from shared.http.manifest import load_all
from shared.http.routes import as_template
from shared.settings.settings import DISTRIBUTION
from tests.support.checkout import copy_checkout, unpacked_bundle
from tests.support.processes import ADMIN, ROOT, SITE_PACKAGES, environment, framework, request

NAMES = [manifest.name for manifest in load_all(ROOT / "functions")]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked_bundle(ROOT, tmp_path_factory.mktemp("bundle"))


def imported(unpacked: Path, code: str, target: str = "health", **env: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` there, after the packages were made visible but not the checkout."""
    start = f"import sys; sys.path[:0] = [{str(unpacked)!r}]; sys.path.append({SITE_PACKAGES!r}); {code}"
    given = environment({"FUNCTION_TARGET": target, **env})
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", start], env=given, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    first = build(checkout, tmp_path / "first.zip").read_bytes()
    for file in checkout.rglob("*.py"):
        os.utime(file, (1, 1))
    (checkout / "shared" / "__pycache__").mkdir()
    (checkout / "shared" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    assert build(checkout, tmp_path / "second.zip").read_bytes() == first
    (checkout / "shared" / "chat.py").write_text("# changed\n")
    assert build(checkout, tmp_path / "third.zip").read_bytes() != first


def test_it_holds_what_is_deployed_and_nothing_else(unpacked: Path) -> None:
    files = {file.relative_to(unpacked).as_posix() for file in unpacked.rglob("*") if file.is_file()}
    assert {"main.py", "requirements.txt", "functions/chat/main.py", "functions/chat/endpoint.json"} <= files
    assert "shared/http/endpoint.py" in files
    local_only = (
        "functions/serve.py",
        "functions/bundle.py",
        "functions/scaffold.py",
        "functions/check_config.py",
        "shared/emulator",
        "shared/parallel",
    )
    assert not [file for file in files if file.startswith(local_only)]
    assert not [file for file in files if file.endswith((".pyc", ".md", ".db", ".env"))]


@pytest.mark.parametrize("name", NAMES)
async def test_each_function_serves_from_it(unpacked: Path, name: str) -> None:
    async with running(EmulatorConfig()) as gemini:
        env = {"GEMINI_BASE_URL": gemini.url, "GEMINI_API_KEY": "AQ.key-of-the-server"}
        async with framework(name, "main.py", env, unpacked, isolated=True) as server:
            status, _, health = await request("GET", f"{server.url}/health")
            assert (status, health["status"]) == (200, "healthy")
            assert health["version"][0].isdigit()
            if name in ("chat", "generate_text"):
                status, _, body = await request("POST", server.url, json={"prompt": "Hello"}, headers=ADMIN)
                assert (status, bool(body.get("text") or body.get("generated_text"))) == (200, True)


async def test_image_link_leads_to_the_image_function(unpacked: Path, tmp_path: Path) -> None:
    storage = {"STORAGE_URL": f"file://{tmp_path}"}
    async with (
        running(EmulatorConfig()) as gemini,
        framework("image", "main.py", storage, unpacked, isolated=True) as image,
    ):
        keys = {"GEMINI_BASE_URL": gemini.url, "GEMINI_API_KEY": "AQ.key-of-the-server"}
        env = {**storage, **keys, "PUBLIC_BASE_URL": image.url}
        async with framework("generate", "main.py", env, unpacked, isolated=True) as generate:
            _, _, body = await request("POST", generate.url, json={"prompt": "A lighthouse"}, headers=ADMIN)
            (made,) = body["images"]
            assert made["url"] == f"{image.url}/image/{made['name']}"
            status, headers, _ = await request("HEAD", made["url"])
            assert (status, headers["content-length"]) == (200, str(made["size_bytes"]))


async def test_the_console_has_every_function_and_its_page_in_it(unpacked: Path) -> None:
    async with framework("console", "main.py", {}, unpacked, isolated=True) as server:
        status, _, document = await request("GET", f"{server.url}/openapi.json")
        assert status == 200
        paths = {as_template(pattern) for manifest in load_all(ROOT / "functions") for pattern in manifest.paths}
        assert document["paths"].keys() == paths
        assert (await request("GET", f"{server.url}/docs"))[0] == 200
        for name in NAMES_OF_ASSETS:
            assert (await request("GET", f"{server.url}/docs/{name}"))[0] == 200
    licences = list((unpacked / "functions/console/viewer").rglob("*LICENSE*"))
    assert len(licences) == 2, "what is passed on is passed on with its licence"


def test_it_knows_its_version_by_itself(unpacked: Path) -> None:
    (packed,) = distributions(path=[str(unpacked)])
    assert (packed.name, packed.version) == (DISTRIBUTION, version(DISTRIBUTION))


def test_it_needs_nothing_of_the_checkout(unpacked: Path) -> None:
    shown = imported(unpacked, "import main, shared; print(shared.__file__)")
    assert Path(shown.stdout.strip()).is_relative_to(unpacked), shown.stderr
    hidden = imported(unpacked / "functions", "import shared")
    assert "ModuleNotFoundError" in hidden.stderr


def test_a_function_imports_only_itself(unpacked: Path) -> None:
    code = "import main; print(*(name for name in sys.modules if name.startswith('functions.')))"
    shown = imported(unpacked, code)
    assert shown.stdout.split() == ["functions.health", "functions.health.main"], shown.stderr


@pytest.mark.parametrize("target", ["chat", "image"])
def test_importing_it_imports_no_client_and_no_store(unpacked: Path, target: str) -> None:
    late = ("aiohttp", "grpc", "google.cloud.firestore", "obstore", "sqlite3", "shared.bootstrap")
    shown = imported(unpacked, f"import main; print(*(name for name in {late} if name in sys.modules))", target)
    assert shown.stdout.strip() == "", shown.stderr


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"target": "serve"}, "FUNCTION_TARGET is 'serve'; it must be one of"),
        ({"target": ""}, "FUNCTION_TARGET is ''"),
        ({"GEMINI_RPM": "many"}, "GEMINI_RPM is 'many'"),
        ({"K_SERVICE": "health"}, "GOOGLE_CLOUD_PROJECT"),
    ],
)
def test_what_is_wrong_keeps_a_revision_from_becoming_ready(unpacked: Path, env: dict[str, str], told: str) -> None:
    done = imported(unpacked, "import main", **env)
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
