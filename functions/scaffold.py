"""Creates a working endpoint: `python -m functions.scaffold translation` (make new-endpoint NAME=translation).

It writes functions/<name>/main.py, models.py and endpoint.json, and a test. No other file lists the functions.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_MAX_CHARS = 40
_TAKEN = frozenset({"serve", "bundle", "scaffold", "main", "shared", "functions"})

_MAIN = '''"""POST {path}: a text -> a text, by the instruction below."""

from functions.{name}.models import Request
from shared.gemini.native_body import native_body, turn
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint

INSTRUCTION = "{title}: answer with the result only."


@endpoint()
async def {name}(call: Call) -> JsonObject:
    asked = await call.read(Request)
    body = native_body([turn("user", asked.text)], INSTRUCTION)
    return await call.answer_text(asked.model, body)
'''

_MODELS = '''"""The request and response bodies of POST {path}, which GET /docs shows too."""

from __future__ import annotations

from pydantic import Field

from shared.http.bodies import GenerationAnswer, GenerationBody, Text


class Request(GenerationBody):
    text: Text = Field(description="What to work on.", examples=["Good morning, everyone."])


class Answer(GenerationAnswer):
    text: str = Field(description="The result.")
'''

_ENDPOINT = """{{
  "description": "{title}.",
  "paths": {{"{path}": ["POST"]}},
  "access": "credential",
  "memory_mb": 512,
  "cpu": 1,
  "concurrency": 1000,
  "timeout_s": 180,
  "secrets": ["ADMIN_API_KEY", "GEMINI_API_KEY"]
}}
"""

_TEST = '''"""POST {path}."""

import pytest

from tests.support.functions import called


async def test_{name}_returns_text() -> None:
    answer = await called("{name}", {{"text": "Hello"}}, gemini_says="Bonjour")
    assert answer.status == 200
    assert answer.json()["text"] == "Bonjour"


@pytest.mark.parametrize("body", [{{}}, {{"text": ""}}, {{"text": 1}}, {{"texts": "Hello"}}])
async def test_{name}_names_the_invalid_field(body: dict[str, object]) -> None:
    answer = await called("{name}", body)
    assert answer.status == 400
    assert answer.json()["error"]["details"]["field"].startswith("text")
'''


class ScaffoldError(Exception):
    """The name cannot be used; the message explains why."""


def create(root: Path, name: str) -> list[Path]:
    """Writes the endpoint's files into the checkout at `root`, and returns their paths. Raises ScaffoldError."""
    if not _NAME.fullmatch(name) or len(name) > _MAX_CHARS:
        raise ScaffoldError(
            f"NAME is {name[:_MAX_CHARS]!r}; it must be lower case words joined by underscores, like word_count, "
            f"of at most {_MAX_CHARS} characters."
        )
    if keyword.iskeyword(name) or name in _TAKEN:
        raise ScaffoldError(f"NAME is {name!r}, which is reserved; choose another NAME.")
    folder, test = root / "functions" / name, root / "tests" / "functions" / f"test_{name}.py"
    for taken in (folder, test):
        if taken.exists():
            raise ScaffoldError(f"{taken.relative_to(root)} already exists; choose another NAME, or remove it.")
    words = {"name": name, "path": "/" + name.replace("_", "-"), "title": name.replace("_", " ").capitalize()}
    files = {
        folder / "main.py": _MAIN,
        folder / "models.py": _MODELS,
        folder / "endpoint.json": _ENDPOINT,
        test: _TEST,
    }
    for file, template in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(template.format(**words))
    return list(files)


def main(arguments: Sequence[str]) -> int:
    try:
        files = create(ROOT, arguments[0] if arguments else "")
    except ScaffoldError as error:
        print(error, file=sys.stderr)
        return 1
    print(*(file.relative_to(ROOT) for file in files), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
