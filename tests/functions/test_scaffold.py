"""`make new-endpoint NAME=...`: an endpoint that works at once, locally and deployed, and named nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from functions.scaffold import ScaffoldError, create
from shared.emulator import EmulatorConfig, running
from tests.support.checkout import copy_checkout, unpacked_bundle
from tests.support.processes import ADMIN, ROOT, environment, framework, request, served


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with an endpoint more."""
    made = copy_checkout(tmp_path_factory.mktemp("scaffold") / "checkout")
    create(made, "word_count")
    return made


async def test_it_serves_locally_on_its_path(checkout: Path) -> None:
    async with served({}, checkout) as server:
        status, _, body = await request("POST", f"{server.url}/word-count", json={"text": "Hello"}, headers=ADMIN)
        assert (status, bool(body["text"])) == (200, True)
        status, _, body = await request("POST", f"{server.url}/word-count", json={"txt": "Hello"}, headers=ADMIN)
        assert (status, body["error"]["details"]) == (400, {"field": "txt"})
        status, _, _ = await request("POST", f"{server.url}/word-count", json={"text": "Hello"})
        assert status == 401


async def test_it_is_in_the_specification_at_once(checkout: Path) -> None:
    async with served({}, checkout) as server:
        _, _, document = await request("GET", f"{server.url}/openapi.json")
        operation = document["paths"]["/word-count"]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        assert (operation["operationId"], operation["summary"]) == ("word_count", "Word count.")
        assert content["schema"] == {"$ref": "#/components/schemas/WordCountRequest"}
        assert "text" in document["components"]["schemas"]["WordCountRequest"]["required"]
        example = content["examples"]["1"]["value"]
        status, _, body = await request("POST", f"{server.url}/word-count", json=example, headers=ADMIN)
    assert (status, bool(body["text"])) == (200, True)
    assert body.keys() == document["components"]["schemas"]["WordCountAnswer"]["properties"].keys()


async def test_it_serves_from_the_bundle(checkout: Path, tmp_path: Path) -> None:
    bundle = unpacked_bundle(checkout, tmp_path)
    async with running(EmulatorConfig()) as gemini:
        env = {"GEMINI_BASE_URL": gemini.url, "GEMINI_API_KEY": "AQ.key-of-the-server"}
        async with framework("word_count", "main.py", env, bundle, isolated=True) as server:
            status, _, body = await request("POST", server.url, json={"text": "Hello"}, headers=ADMIN)
    assert (status, bool(body["text"])) == (200, True)


def test_the_test_that_comes_with_it_passes(checkout: Path) -> None:
    arguments = [sys.executable, "-m", "pytest", "tests/functions/test_word_count.py"]
    done = subprocess.run(
        arguments, cwd=checkout, env=environment({}), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_its_code_is_in_the_agreed_style(checkout: Path) -> None:
    files = [str(checkout / "functions/word_count"), str(checkout / "tests/functions/test_word_count.py")]
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--no-cache", *files],
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name",
    ["", "Translation", "word-count", "word__count", "_word", "word_", "1st", "a b", "../evil", "é", "x" * 41, "class"],
)
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScaffoldError, match="NAME is"):
        create(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(checkout: Path) -> None:
    for name in ("chat", "word_count", "serve"):
        with pytest.raises(ScaffoldError):
            create(checkout, name)
    assert (checkout / "functions/chat/main.py").read_text() == (ROOT / "functions/chat/main.py").read_text()


def test_scaffold_error_is_one_sentence() -> None:
    arguments = [sys.executable, "-m", "functions.scaffold", "Not A Name"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
