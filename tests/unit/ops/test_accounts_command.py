"""`python -m shared.accounts` on a SQLite store: what it prints, what it changes, its exit status, and what it never shows."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from shared.accounts import manage
from shared.accounts.old_file import MAX_FILE_BYTES
from shared.accounts.sealing import DataKeys
from shared.configuration.document import Configuration
from shared.emulator.config import EmulatorConfig
from shared.emulator.running import running
from shared.ledger.packing import unpack
from shared.ledger.state import COLLECTION, State
from shared.secret import Secret
from shared.stores.port import StoreUnavailable
from shared.stores.sqlite import SqliteStore
from tests.support.accounts_command import ADDED_KEY as KEY
from tests.support.accounts_command import ENVIRONMENT_KEY, Command, Stdin
from tests.support.data_keys import data_key
from tests.support.enterprise_accounts import COOKIES
from tests.support.fake_google import Answer, error, fake_google
from tests.support.old_files import document
from tests.support.planted_secrets import ECHOED_KEY as BAD_KEY
from tests.support.planted_secrets import KEY_FILE, found_in, planted, run_everything

ROOT = Path(__file__).parents[3]
UNREADY_KEY = "AIzaSy-planted-unready-key-0000000006"
BUSY_KEY = "AIzaSy-planted-busy-key-0000000000004"
ANSWERS: dict[str, Answer] = {
    BAD_KEY: error(400, f"API key not valid: {BAD_KEY} is not known.", "API_KEY_INVALID"),
    UNREADY_KEY: error(403, "Requests from this client are blocked.", "API_KEY_IP_ADDRESS_BLOCKED"),
    BUSY_KEY: error(429, "Resource exhausted, please try again later."),
}


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
        key_file = orjson.dumps(KEY_FILE).decode()
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
        vertex = command.add(orjson.dumps(KEY_FILE).decode(), "--kind", "vertex")
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
    def test_no_planted_secret_is_found_anywhere(
        self, command: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Secrets of every kind go through every command."""
        caplog.set_level("DEBUG")
        printed = run_everything(command, tmp_path)
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
        assert found_in(everywhere) == {}
        # They were planted where they belong: the stored ones can be read with the data key.
        readable = "".join(manage.secret_of(keys, account).reveal() for account in stored.accounts)
        kept = ["key that is added", "key that is pasted", "key that Google echoes", "private key", "first cookie"]
        assert all(planted()[name] in readable for name in (*kept, "second cookie", "token of an account"))
        assert len(found_in({"the secrets": readable.encode()})["the secrets"]) == len(kept) + 2


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
