"""Other clients of OpenAI's API, each in an environment of its own that `make openai-sdk-heavy` makes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.openai_sdk.gateway import ADMIN_KEY, ROOT, Gateway

CLIENTS = Path(__file__).with_name("clients")
TIMEOUT_S = 120
pytestmark = pytest.mark.heavy


def environment(client: str) -> Path:
    folder = ROOT / f".venv-openai-{client}"
    if not (folder / ".setup").exists():
        pytest.skip(f"{folder.name} is not there; `make openai-sdk-heavy` makes it, for Node where npm is installed")
    return folder


def printed(arguments: list[str | Path], gateway: Gateway, **variables: str) -> str:
    """The output of a client that is configured by the two variables of OpenAI's SDKs."""
    given = {
        **os.environ,
        "OPENAI_BASE_URL": gateway.base_url,
        "OPENAI_API_KEY": ADMIN_KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        **variables,
    }
    done = subprocess.run(
        [str(one) for one in arguments], env=given, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(shown: dict[str, Any]) -> None:
    assert "lighthouse" in shown["whole"]
    assert shown["streamed"] == shown["whole"]
    assert len(shown["asked"]) == 1
    assert "It is fine." in shown["after"]


def test_openai_node(gateway: Gateway) -> None:
    folder = environment("node")
    # Node looks for packages above the script.
    script = folder / "chat.mjs"
    script.write_text((CLIENTS / "chat.mjs").read_text())
    shown = json.loads(printed(["node", script], gateway))
    check(shown)
    assert shown["failed"] == "NotFoundError"


def test_langchain_openai(gateway: Gateway) -> None:
    python = environment("langchain") / "bin" / "python"
    shown = json.loads(printed([python, CLIENTS / "with_langchain.py"], gateway))
    check(shown)
    assert shown["parsed"]
    assert len(shown["vectors"]) == 2


def test_litellm(gateway: Gateway) -> None:
    python = environment("litellm") / "bin" / "python"
    check(json.loads(printed([python, CLIENTS / "with_litellm.py"], gateway)))


def test_llm_command(gateway: Gateway, tmp_path: Path) -> None:
    command = environment("llm") / "bin" / "llm"
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: gemini\n  model_name: gemini-3.8-flash\n  api_base: {gateway.base_url}\n  api_key_name: gateway\n"
    )
    printed([command, "keys", "set", "gateway", "--value", ADMIN_KEY], gateway, LLM_USER_PATH=str(tmp_path))
    for way in ([], ["--no-stream"]):
        said = printed([command, "-m", "gemini", *way, "Hello, lighthouse"], gateway, LLM_USER_PATH=str(tmp_path))
        assert "lighthouse" in said
