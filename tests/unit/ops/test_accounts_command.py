"""`python -m shared.accounts` on a SQLite store: what it prints, what it changes, its exit status, and what it never shows."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.accounts import manage
from shared.accounts.old_file import MAX_FILE_BYTES
from shared.accounts.sealing import DataKeys
from shared.bootstrap import accounts_desk
from shared.configuration.document import Configuration
from shared.configuration.store import ConfigurationStore
from shared.emulator.config import EmulatorConfig
from shared.emulator.running import running
from shared.ledger.packing import unpack
from shared.ledger.state import COLLECTION, State
from shared.ops.accounts_command import main
from shared.secret import Secret
from shared.stores.port import StoreUnavailable
from shared.stores.sqlite import SqliteStore
from tests.support.data_keys import data_key
from tests.support.enterprise_accounts import COOKIES
from tests.support.fake_google import Answer, error, fake_google
from tests.unit.accounts.test_old_file import document
from tests.unit.accounts.test_pasted import SERVICE_ACCOUNT

ROOT = Path(__file__).parents[3]
KEY, ENVIRONMENT_KEY = "AIzaSy-planted-added-key-000000000001", "AQ.planted-environment-key-0000000002"
UNREADY_KEY = "AIzaSy-planted-unready-key-0000000006"
BAD_KEY, BUSY_KEY = "AIzaSy-planted-rejected-key-00000000003", "AIzaSy-planted-busy-key-0000000000004"
ANSWERS: dict[str, Answer] = {
    BAD_KEY: error(400, f"API key not valid: {BAD_KEY} is not known.", "API_KEY_INVALID"),
    UNREADY_KEY: error(403, "Requests from this client are blocked.", "API_KEY_IP_ADDRESS_BLOCKED"),
    BUSY_KEY: error(429, "Resource exhausted, please try again later."),
}
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

    def add(self, key: str = KEY, *options: str) -> str:
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


@contextmanager
def emulator(projects: dict[str, str]) -> Iterator[str]:
    """An offline Gemini in a thread of its own, because the command runs a loop of its own."""
    started: Future[str] = Future()
    ends = threading.Event()

    async def serve() -> None:
        async with running(EmulatorConfig(keys=projects)) as gemini:
            started.set_result(gemini.url)
            await asyncio.to_thread(ends.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield started.result(timeout=60)
    finally:
        ends.set()
        thread.join()


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    with fake_google(ANSWERS) as url:
        yield url


@pytest.fixture
def command(
    tmp_path: Path, google: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    return Command(tmp_path, google, capsys, monkeypatch)


class TestAdd:
    def test_added_account_is_listed_with_its_last_four(self, command: Command) -> None:
        name = command.add(KEY, "--label", "team a", "--project", "my-project")
        text = command.done("list")
        heading, environment, stored = text.splitlines()
        assert heading.split() == ["ID", "KIND", "LABEL", "KEY", "PROJECT", "SOURCE", "STATE", "ADDED"]
        assert environment.split() == [
            "gemini-api-key", "api_key", "...0002", "unknown", "GEMINI_API_KEY", "ENABLED",
        ]  # fmt: skip
        assert stored.split()[:8] == [name, "api_key", "team", "a", "...0001", "my-project", "stored", "ENABLED"]

    def test_an_account_that_exists_is_not_added_again(self, command: Command) -> None:
        command.add()
        assert "exists already" in command.failed("add", stdin=KEY)
        assert "exists already" in command.failed("add", stdin=ENVIRONMENT_KEY)

    def test_a_service_account_and_default_credentials(self, command: Command) -> None:
        key_file = orjson.dumps(SERVICE_ACCOUNT).decode()
        added = command.json("add", "--kind", "vertex", "--place", "location=europe-west4", stdin=key_file)["added"]
        assert (added[0]["kind"], added[0]["project"], added[0]["last4"]) == ("vertex", "my-project", "4567")
        default = ("add", "--kind", "vertex", "--adc", "--place", "project=other-project")
        assert command.json(*default)["added"][0]["project"] == "other-project"

    @pytest.mark.parametrize(
        ("arguments", "stdin", "words"),
        [
            ((), "", "Nothing was read"),
            ((), "short", "must be a Gemini API key"),
            ((), "x" * 20_000, "more than 12,000 characters"),
            (("--kind", "vertex"), "{}", "must be the JSON file of a service account key"),
            (("--kind", "vertex", "--adc"), "", "place.project is missing"),
            (("--place", "location"), KEY, "--place must be NAME=VALUE"),
            (("--place", "location=eu"), KEY, "unknown field for the kind api_key"),
            (("--label", "a\nb"), KEY, "has a control character"),
            (("--adc",), "", "--adc is for the kinds vertex and enterprise"),
            (("--kind", "enterprise_session"), "{}", "Set ALLOW_SESSION_ACCOUNTS=1"),
        ],
    )
    def test_wrong_input_is_one_sentence(
        self, command: Command, arguments: tuple[str, ...], stdin: str, words: str
    ) -> None:
        sentence = command.failed("add", *arguments, stdin=stdin)
        assert words in sentence
        assert sentence.count("\n") == 1
        assert command.stored() == Configuration()

    def test_cookies_are_typed_and_a_key_file_is_not(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        """A prompt takes one line, so the rest of a pasted key file would go to the shell."""
        typed = iter(["CSE.planted-typed-cookie", "COS.planted-typed-cookie"])
        monkeypatch.setattr(Stdin, "isatty", lambda self: True)
        monkeypatch.setattr("getpass.getpass", lambda prompt, stream: next(typed))
        command.env["ALLOW_SESSION_ACCOUNTS"] = "1"
        session = ("--kind", "enterprise_session", "--place", "team_id=t", "--place", "csesidx=1")
        assert command.json("add", *session)["added"][0]["last4"] == "okie"
        assert "to standard input" in command.failed("add", "--kind", "vertex")

    def test_without_a_data_key_nothing_is_read(self, command: Command) -> None:
        del command.env["ACCOUNTS_DATA_KEY"]
        assert "openssl rand -base64 32" in command.failed("add", stdin=KEY)

    @pytest.mark.parametrize("arguments", [("add", KEY), ("add", "--kind", KEY), (KEY,), ("add", f"--{KEY}"), ()])
    def test_arguments_are_never_repeated(
        self, command: Command, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            command.run(*arguments)
        assert ended.value.code == 2
        assert KEY not in capsys.readouterr().err

    def test_ids_that_are_keys_are_never_repeated(self, command: Command) -> None:
        for name in ("test", "enable", "disable", "remove"):
            assert KEY not in command.failed(name, KEY)


class TestPaste:
    def test_500_lines_are_counted_in_one_answer(self, command: Command) -> None:
        """Measured: 0.3 s. The limit is 3 s; ten times that is a hang."""
        command.add()
        keys = [f"AIzaSy-planted-{number:024}" for number in range(400)]
        lines = [KEY, ENVIRONMENT_KEY, *keys, *(f"team {key[-2:]},{key}" for key in keys[:78]), *["planted"] * 20]
        begun = time.monotonic()
        answer = command.json("paste", stdin="\n".join(lines), status=1)
        assert time.monotonic() - begun < 30
        assert (answer["new"], answer["duplicate"], answer["malformed"]) == (400, 80, 20)
        assert len(command.stored().accounts) == 401
        malformed = [line for line in answer["lines"] if line["result"] == "malformed"]
        assert malformed[0] == {"line": 481, "result": "malformed", "why": "its key is shorter than 20 characters"}

    def test_malformed_lines_are_named_by_number(self, command: Command) -> None:
        status, out, _ = command.run("paste", "--project", "p-1", stdin=f"{KEY}\nnothing here\n")
        assert status == 1
        assert out == "1 new, 0 duplicate, 1 malformed.\nline 2: several words, and none of them is a key\n"
        assert command.stored().accounts[0].project == "p-1"

    def test_nothing_new_changes_nothing(self, command: Command) -> None:
        command.add()
        before = command.stored()
        assert command.done("paste", stdin=f"{KEY}\n") == "0 new, 1 duplicate, 0 malformed.\n"
        assert command.stored() == before

    def test_more_accounts_than_fit_are_rejected_as_a_whole(self, command: Command) -> None:
        text = "\n".join(f"AIzaSy-planted-{number:024}" for number in range(1_001))
        assert "it may have at most 1000" in command.failed("paste", stdin=text)
        assert command.stored() == Configuration()


class TestTest:
    def test_verdicts_are_printed_and_stored(self, command: Command) -> None:
        good, bad, busy, unready = map(command.add, (KEY, BAD_KEY, BUSY_KEY, UNREADY_KEY))
        status, out, err = command.run("test")
        rows = {line.split()[0]: line for line in out.splitlines()}
        assert status == 1
        assert "tested 5 of 5" in err
        assert [rows[name].split()[1] for name in ("gemini-api-key", good, bad, busy, unready)] == [
            "ok", "ok", "rejected", "unknown", "restricted",
        ]  # fmt: skip
        assert out.splitlines()[-1] == "2 ok, 1 rejected, 1 restricted, 1 unknown"
        assert BAD_KEY not in out + err and "API key not valid: *** is not known." in rows[bad]
        assert command.states() == {
            "gemini-api-key": "AVAILABLE", good: "AVAILABLE", bad: "FAILED_INIT", busy: "AVAILABLE", unready: "AVAILABLE",
        }  # fmt: skip
        (row,) = [row for row in command.json("states")["states"] if row["id"] == bad]
        assert row["since"] and row["why"] == "key_invalid: API key not valid: *** is not known."

    def test_a_rejected_account_that_passes_serves_again(
        self, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad = command.add(BAD_KEY)
        command.run("test", bad)
        monkeypatch.delitem(ANSWERS, BAD_KEY)
        assert command.json("test", bad)["ok"] == 1
        assert command.states()[bad] == "AVAILABLE"

    def test_unreadable_and_untested_kinds_are_told(self, command: Command) -> None:
        name = command.add()
        command.env["ACCOUNTS_DATA_KEY"] = data_key("z").reveal()
        answer = command.json("test", name, status=1)
        assert answer["accounts"] == [
            {"id": name, "result": "unreadable", "why": "No key of ACCOUNTS_DATA_KEY decrypts its secret."}
        ]

    def test_keys_of_one_project_share_a_ledger_afterwards(self, command: Command) -> None:
        """The offline Gemini has files for each project, so the marker of one key shows among those of the other."""
        with emulator({KEY: "one", BAD_KEY: "one", ENVIRONMENT_KEY: "two"}) as url:
            command.env["GEMINI_BASE_URL"] = url
            pair = [command.add(KEY), command.add(BAD_KEY)]
            assert command.json("test", "--no-marker")["one_project"] == []
            assert command.json("test")["one_project"] == [sorted(pair)]
            assert f"whose limits they share: {', '.join(sorted(pair))}\n" in command.done("test", pair[0])

    def test_a_browser_session_is_tested(self, command: Command) -> None:
        with emulator({}) as url:
            command.env |= {"ALLOW_SESSION_ACCOUNTS": "1", "ENTERPRISE_SESSION_BASE_URL": url}
            place = ("--place", "team_id=team-7", "--place", "csesidx=1234567")
            name = command.add(orjson.dumps(COOKIES).decode(), "--kind", "enterprise_session", *place)
            assert command.done("test", name, "--no-marker").splitlines()[1].split() == [name, "ok"]

    def test_unknown_id_is_named(self, command: Command) -> None:
        assert command.failed("test", "a-none").startswith("There is no account a-none;")


class TestChanges:
    def test_disable_enable_and_remove(self, command: Command) -> None:
        name = command.add()
        assert command.done("disable", name) == f"disabled {name}\n"
        assert command.states()[name] == "DISABLED"
        assert command.done("enable", name) == f"enabled {name}\n"
        assert command.states()[name] == "AVAILABLE"
        assert "Repeat with --yes" in command.failed("remove", name)
        assert command.json("remove", name, "--yes") == {"removed": [name]}
        assert name not in command.states()

    def test_one_unknown_id_changes_none(self, command: Command) -> None:
        name = command.add()
        assert "There is no stored account a-none" in command.failed("disable", name, "a-none")
        assert command.states()[name] == "AVAILABLE"

    def test_accounts_of_the_environment_are_changed_there(self, command: Command) -> None:
        assert command.failed("disable", "gemini-api-key") == (
            "gemini-api-key is set by the environment; change or remove GEMINI_API_KEY there.\n"
        )

    def test_rotation_encrypts_anew_with_the_first_key(self, command: Command) -> None:
        command.add()
        command.done("import", command.write("old.json", document()))
        old, new = data_key("k").reveal(), data_key("n").reveal()
        command.env["ACCOUNTS_DATA_KEY"] = f"{new},{old}"
        assert command.json("rotate-key") == {"encrypted_anew": 5, "unreadable": []}
        command.env["ACCOUNTS_DATA_KEY"] = new
        assert command.json("rotate-key") == {"encrypted_anew": 0, "unreadable": []}
        command.env["ACCOUNTS_DATA_KEY"] = old
        assert len(command.json("rotate-key", status=1)["unreadable"]) == 5

    def test_store_in_the_serving_process_is_rejected(self, command: Command) -> None:
        command.env["LEDGER_URL"] = "memory://"
        assert "LEDGER_URL is memory://" in command.failed("list")


class TestFiles:
    def test_imported_exported_and_imported_again_is_the_same(self, command: Command, tmp_path: Path) -> None:
        command.add()
        text = command.done("import", command.write("old.json", document()))
        first, second, *_ = text.splitlines()
        assert first == "Imported accounts: 2 new, 0 updated, 0 unchanged; models: 2; and the proxy."
        assert second.startswith(
            "Disabled: 2. An account of the kind enterprise_session works with the cookies of a browser"
        )
        passphrase, exported = command.write("passphrase", b"a long passphrase\n"), str(tmp_path / "export.json")
        command.done("export", "--secrets", "--passphrase-file", passphrase, "--output", exported)
        assert Path(exported).stat().st_mode & 0o777 == 0o600
        plain = command.done("export")
        before = command.stored()
        again = command.json("import", exported, "--passphrase-file", passphrase)
        assert again == {"new": 0, "updated": 0, "unchanged": 3, "models": 2, "proxy": True, "not_allowed": 0}
        assert command.stored().accounts == before.accounts
        command.env["LEDGER_URL"] = f"sqlite:///{tmp_path}/other.db"
        command.done("import", exported, "--passphrase-file", passphrase)
        assert command.done("export") == plain
        keys = DataKeys([data_key("k")])
        assert [manage.secret_of(keys, one) for one in command.stored().accounts] == [
            *(manage.secret_of(keys, one) for one in before.accounts if one.kind == "enterprise_session"),
            Secret(KEY),
        ]

    def test_passphrase_comes_from_standard_input_too(self, command: Command, tmp_path: Path) -> None:
        command.add()
        exported = str(tmp_path / "export.json")
        command.done("export", "--secrets", "--output", exported, stdin="a long passphrase\n")
        assert "passphrase is wrong" in command.failed("import", exported, stdin="another passphrase\n")
        assert "The passphrase is empty" in command.failed("import", exported)
        assert command.json("import", exported, stdin="a long passphrase\n")["unchanged"] == 1

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (document(accounts=[{}]), "accounts[0].team_id is missing"),
            (b"[" * 5_000, "The file is not JSON"),
            (b" " * 10_000_000, f"at most {MAX_FILE_BYTES:,} are allowed"),
        ],
    )
    def test_nothing_of_a_wrong_file_is_imported(self, command: Command, content: object, words: str) -> None:
        sentence = command.failed("import", command.write("old.json", content))
        assert words in sentence and sentence.endswith("Nothing was imported.\n")
        assert command.stored() == Configuration()

    def test_unreadable_secrets_stop_an_export_with_secrets(self, command: Command) -> None:
        name = command.add()
        command.env["ACCOUNTS_DATA_KEY"] = data_key("z").reveal()
        assert f"decrypts {name};" in command.failed("export", "--secrets", stdin="a long passphrase\n")

    def test_files_that_cannot_be_used_are_told(self, command: Command) -> None:
        assert "cannot be read: No such file" in command.failed("import", "/nonexistent")
        existing = command.write("x", b"")
        assert "exists already" in command.failed("export", "--output", existing)
        assert "passphrase is short" in command.failed("export", "--secrets", stdin="short\n")

    def test_session_accounts_are_enabled_only_if_allowed(self, command: Command) -> None:
        command.done("import", command.write("old.json", document()))
        first = command.stored().accounts[0].id
        assert "Set ALLOW_SESSION_ACCOUNTS=1" in command.failed("enable", first)
        command.env["ALLOW_SESSION_ACCOUNTS"] = "1"
        command.done("enable", first)
        assert command.states()[first] == "AVAILABLE"

    def test_an_account_without_cookies_is_not_enabled(self, command: Command) -> None:
        command.env["ALLOW_SESSION_ACCOUNTS"] = "1"
        command.done("import", command.write("old.json", {"accounts": [{"team_id": "t", "csesidx": "1"}]}))
        assert "its secret is missing" in command.failed("enable", command.stored().accounts[0].id)


class TestAssignProject:
    def ledger(self, command: Command, name: str) -> State | None:
        async def read() -> State | None:
            store = SqliteStore(command.env["LEDGER_URL"].removeprefix("sqlite:///"))
            value = (await store.read(COLLECTION + name)).value
            await store.aclose()
            return None if value is None else unpack(value)

        return asyncio.run(read())

    def test_an_account_takes_its_ledger_along(self, command: Command) -> None:
        name, own = command.add(), f"k-{Secret(KEY).fingerprint('project')}"
        assert command.done("assign-project", name, "my-project") == (
            f"{name} is of the project my-project, and shares its limits.\n"
        )
        assert command.stored().accounts[0].ledger_id == "my-project"
        closed, survivor = self.ledger(command, "my-project"), self.ledger(command, own)
        assert closed is not None and closed.moved == own
        assert survivor is not None and not survivor.moved
        assert command.json("assign-project", name, "my-project") == {"assigned": name, "project": "my-project"}
        assert command.states()[name] == "AVAILABLE"

    def test_a_command_that_ended_halfway_is_completed(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        name = command.add()

        async def killed(*given: object) -> None:
            raise StoreUnavailable("killed")

        with monkeypatch.context() as patched:
            patched.setattr(manage, "assign_project", killed)
            assert command.failed("assign-project", name, "my-project") == "killed\n"
        merged = self.ledger(command, "my-project")
        assert merged is not None and merged.moved, "from here on both are counted together"
        assert command.stored().accounts[0].project is None
        command.done("assign-project", name, "my-project")
        assert self.ledger(command, "my-project") == merged
        assert command.stored().accounts[0].project == "my-project"

    def test_what_must_not_be_merged_is_left_alone(self, command: Command) -> None:
        first = command.add(KEY, "--project", "one")
        lost = command.add(BAD_KEY)
        vertex = command.add(orjson.dumps(SERVICE_ACCOUNT).decode(), "--kind", "vertex")
        assert "is of the project one already" in command.failed("assign-project", first, "two")
        assert "whose place names its project" in command.failed("assign-project", vertex, "two")
        assert "GEMINI_API_KEY_PROJECT" in command.failed("assign-project", "gemini-api-key", "two")
        assert "There is no stored account a-none" in command.failed("assign-project", "a-none", "two")
        assert "project must be 1 to 100 letters" in command.failed("assign-project", lost, "not a project")
        command.env["ACCOUNTS_DATA_KEY"] = data_key("z").reveal()
        assert "the ledger that counts it is not known" in command.failed("assign-project", lost, "two")
        assert self.ledger(command, "two") is None


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"}
    ended = subprocess.run(
        [sys.executable, "-m", "shared.accounts", "list"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    # The repository's .env may have keys, which are listed.
    assert (ended.stderr, ended.stdout[:2]) in (("", "Th"), ("", "ID"))


class TestSecrets:
    """Secrets of every kind go through every command, and appear nowhere."""

    PASSPHRASE, PROXY_PASSWORD = "planted passphrase of an export", "planted-proxy-password"
    ADMIN_KEY = "planted-admin-key-0123456789"

    def planted(self) -> dict[str, str]:
        file = document()
        return {
            "key in the environment": ENVIRONMENT_KEY,
            "key that is added": KEY,
            "key that is pasted": "AIzaSy-planted-pasted-key-0000000000005",
            "key that Google echoes": BAD_KEY,
            "private key": "plantedPrivateKeyplantedPrivateKey0123456789",
            "first cookie": file["accounts"][0]["secure_c_ses"],
            "second cookie": file["accounts"][0]["host_c_oses"],
            "token of an account": file["accounts"][1]["jwt"],
            "password of the stored proxy": "planted-password",
            "password of the environment's proxy": self.PROXY_PASSWORD,
            "passphrase": self.PASSPHRASE,
            "data key": data_key("n").reveal(),
            "earlier data key": data_key("k").reveal(),
            "admin key": self.ADMIN_KEY,
        }

    def run_everything(self, command: Command, tmp_path: Path) -> list[str]:
        """What all commands print, with one failure of each."""
        planted = self.planted()
        printed: list[str] = []

        def run(*arguments: str, stdin: str = "") -> None:
            for options in ((), ("--json",)):
                _, out, err = command.run(*arguments, *options, stdin=stdin)
                printed.extend((out, err))

        command.env |= {"ADMIN_API_KEY": self.ADMIN_KEY, "HTTP_PROXY": f"http://u:{self.PROXY_PASSWORD}@127.0.0.1:1"}
        pasted = f"name,{planted['key that is pasted']}\n{BAD_KEY}\n{orjson.dumps(SERVICE_ACCOUNT).decode()}\n"
        run("add", stdin=KEY)
        run("paste", stdin=f"{pasted}{KEY[:15]}\n'{planted['first cookie']}\n")
        run("import", command.write("old.json", document()))
        run("import", command.write("wrong.json", document(proxy_enabled=planted["token of an account"])))
        for name in ("list", "states", "configuration", "test", "export"):
            run(name)
        run("export", "--secrets", stdin=f"{self.PASSPHRASE}\n")
        run("export", "--secrets", "--output", str(tmp_path / "export.json"), stdin=f"{self.PASSPHRASE}\n")
        run("import", str(tmp_path / "export.json"), stdin=f"{self.PASSPHRASE}\n")
        run("import", str(tmp_path / "export.json"), stdin=f"{self.PASSPHRASE} wrong\n")
        command.env["ACCOUNTS_DATA_KEY"] = ",".join((planted["data key"], planted["earlier data key"]))
        run("rotate-key")
        for account in command.stored().accounts:
            run("disable", account.id)
            run("enable", account.id)
        return printed

    def test_no_planted_secret_is_found_anywhere(
        self, command: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        printed = self.run_everything(command, tmp_path)
        stored = command.stored()
        keys = DataKeys([data_key("n")])
        everywhere = {
            "what is printed": "".join(printed).encode(),
            "logs": caplog.text.encode(),
            "repr": repr((stored, keys, stored.accounts)).encode(),
            "export": (tmp_path / "export.json").read_bytes(),
            "store": b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*")),
        }
        assert all(everywhere[name] for name in ("what is printed", "repr", "export", "store"))
        for name, secret in self.planted().items():
            forms = {secret.encode(), base64.b64encode(secret.encode())[:-4], orjson.dumps(secret)[1:-1]}
            assert [place for place, content in everywhere.items() if any(form in content for form in forms)] == [], (
                name
            )
        # They were planted where they belong: the stored ones can be read with the data key.
        readable = "".join(manage.secret_of(keys, account).reveal() for account in stored.accounts)
        kept = ["key that is added", "key that is pasted", "key that Google echoes", "private key", "first cookie"]
        assert all(self.planted()[name] in readable for name in (*kept, "second cookie", "token of an account"))


PROXY = "http://someone:a-proxy-password@127.0.0.1:9"


class TestProxy:
    def test_a_proxy_is_stored_switched_and_removed(self, command: Command) -> None:
        assert command.done("proxy", "show") == "There is no stored proxy.\n"
        set_ = command.done("proxy", "set", stdin=f"{PROXY}\n")
        assert set_.splitlines()[0] == "http://127.0.0.1:9 (on)"
        assert "password" in set_ and "a-proxy-password" not in set_
        assert command.done("proxy", "off").splitlines()[0] == "http://127.0.0.1:9 (off)"
        assert command.json("proxy", "on")["proxy"] == {
            "proxy": "http://127.0.0.1:9", "with_credentials": True, "enabled": True, "locked_by": None,
        }  # fmt: skip
        command.done("proxy", "remove")
        assert command.stored().proxy is None

    def test_without_a_proxy_nothing_is_switched(self, command: Command) -> None:
        for do in ("on", "off", "test"):
            assert "There is no stored proxy" in command.failed("proxy", do)

    def test_what_is_no_proxy_is_refused_without_its_password(self, command: Command) -> None:
        assert "a-password" not in (said := command.failed("proxy", "set", stdin="socks5://me:a-password@host:1"))
        assert said.startswith("proxy.url must be like http://proxy.example:3128")
        assert command.stored().proxy is None

    def test_a_proxy_of_the_environment_wins(self, command: Command) -> None:
        command.done("proxy", "set", stdin=PROXY)
        command.env["HTTPS_PROXY"] = "http://proxy.example:3128"
        assert "HTTPS_PROXY is set in the environment, which wins" in command.done("proxy", "show")

    def test_every_field_is_shown_with_what_locks_it(self, command: Command) -> None:
        command.done("proxy", "set", stdin=PROXY)
        command.env |= {"GEMINI_RPM": "7", "HTTPS_PROXY": "http://proxy.example:3128"}
        lines = {line.split()[0]: line for line in command.done("configuration").splitlines()}
        assert lines["version"] == "version 1"
        assert lines["limits.rpm"].endswith("locked by GEMINI_RPM")
        assert lines["proxy"].endswith("locked by HTTPS_PROXY; stored: http://127.0.0.1:9, password ...word (on)")
        fields = {row["field"]: row for row in command.json("configuration")["fields"]}
        assert (fields["limits.rpm"]["value"], fields["limits.tpm"]["source"]) == (7, "default")

    def test_a_test_says_what_does_not_answer(self, command: Command) -> None:
        command.done("proxy", "set", stdin=PROXY)
        found = command.json("proxy", "test", status=1)
        assert found["proxy"] == "http://127.0.0.1:9"
        assert found["check"]["outcome"] == "unreachable"
        assert "a-proxy-password" not in orjson.dumps(found).decode()
