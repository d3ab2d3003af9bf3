"""`python -m shared.accounts` on a SQLite store, run in this process."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.bootstrap import accounts_desk
from shared.configuration.document import Configuration
from shared.configuration.store import ConfigurationStore
from shared.ops.accounts_command import main
from shared.stores.sqlite import SqliteStore
from tests.support.data_keys import data_key

ADDED_KEY, ENVIRONMENT_KEY = "AIzaSy-planted-added-key-000000000001", "AQ.planted-environment-key-0000000002"
Result = tuple[int, str, str]


class Stdin(io.StringIO):
    """Standard input that is a pipe, as text and as bytes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.buffer = io.BytesIO(text.encode())  # type: ignore[misc]


class Command:
    """The command on one store. `run` gives the exit status, standard output and standard error."""

    def __init__(
        self, folder: Path, google: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.folder, self.capsys, self.monkeypatch = folder, capsys, monkeypatch
        self.env = {
            "LEDGER_URL": f"sqlite:///{folder}/ledger.db",
            "ACCOUNTS_DATA_KEY": data_key("k").reveal(),
            "GEMINI_BASE_URL": google,
            "OAUTH_TOKEN_URL": f"{google}/token",
            "GEMINI_API_KEY": ENVIRONMENT_KEY,
        }

    def run(self, *arguments: str, stdin: str = "") -> Result:
        self.monkeypatch.setattr(sys, "stdin", Stdin(stdin))
        status = main(arguments, self.env, accounts_desk)
        printed = self.capsys.readouterr()
        return status, printed.out, printed.err

    def json(self, *arguments: str, stdin: str = "", status: int = 0) -> dict[str, Any]:
        found, out, err = self.run(*arguments, "--json", stdin=stdin)
        assert found == status, err
        value: dict[str, Any] = orjson.loads(out)
        return value

    def done(self, *arguments: str, stdin: str = "") -> str:
        status, out, err = self.run(*arguments, stdin=stdin)
        assert status == 0, err
        return out

    def failed(self, *arguments: str, stdin: str = "") -> str:
        """The one sentence of a command that did nothing."""
        status, out, err = self.run(*arguments, stdin=stdin)
        assert (status, out) == (1, "")
        return err

    def add(self, key: str = ADDED_KEY, *options: str) -> str:
        added = self.json("add", *options, stdin=f"{key}\n")["added"]
        return str(added[0]["id"])

    def write(self, name: str, value: object) -> str:
        path = self.folder / name
        path.write_bytes(value if isinstance(value, bytes) else orjson.dumps(value))
        return str(path)

    def stored(self) -> Configuration:
        async def read() -> Configuration:
            store = SqliteStore(self.env["LEDGER_URL"].removeprefix("sqlite:///"))
            found = await ConfigurationStore(store).read()
            await store.aclose()
            return found

        return asyncio.run(read())

    def states(self) -> dict[str, str]:
        return {row["id"]: row["state"] for row in self.json("states")["states"]}
