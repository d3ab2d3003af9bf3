"""The local server: every function on one port, with no account needed, as `make run` starts it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from functions.serve import recent
from shared.http.manifest import load_all
from tests.support.checkout import copy_checkout
from tests.support.processes import ADMIN, ADMIN_KEY, ROOT, Running, environment, request, served, started
from tests.support.routes import example_path
from tests.support.whole_path import eventually

SERVE = [sys.executable, "-m", "functions.serve"]


async def refused(env: dict[str, str], *arguments: str) -> str:
    """What it says when it does not start."""
    async with started([*SERVE, *arguments], {"LEDGER_URL": "memory://", "PORT": "0", **env}) as server:
        assert await server.ended(20) == 1
        return server.output


async def chat(server: Running) -> int:
    return (await request("POST", f"{server.url}/chat", json={"prompt": "Hello"}, headers=ADMIN))[0]


async def test_without_any_setting_the_line_it_shows_works_as_it_is() -> None:
    env = {"PORT": "0", "LEDGER_URL": "memory://"}
    async with started(SERVE, env, ready=r"^Serving on (\S+)") as server:
        shown = await server.line(r"^  (curl .*)$")
        assert "offline Gemini" in server.output
        curl, url, *options = shlex.split(shown[1])
        pairs = list(zip(options[::2], options[1::2], strict=True))
        headers = dict(value.split(": ", 1) for option, value in pairs if option == "-H")
        (data,) = (value for option, value in pairs if option == "-d")
        status, _, body = await request("POST", url, data=data, headers=headers)
    assert (curl, status, bool(body["text"])) == ("curl", 200, True)


async def test_every_path_of_every_function_is_there_and_no_other() -> None:
    async with served({"LOG_LEVEL": "info"}) as server:
        for manifest in load_all(ROOT / "functions"):
            for pattern, methods in manifest.paths.items():
                path = example_path(pattern)
                for before in ("", "/"):  # The second is a base URL with a slash at its end.
                    status, headers, _ = await request("OPTIONS", server.url + before + path)
                    assert (status, headers["allow"].split(", ")[: len(methods)]) == (204, list(methods))
        status, headers, body = await request("GET", f"{server.url}/nothing/here")
        assert (status, body["error"]["code"]) == (404, "not_found")
        assert headers["access-control-allow-origin"] == "*"
        assert headers["x-request-id"] == body["error"]["request_id"]
        for path in ("/", "/health"):
            status, _, body = await request("GET", server.url + path)
            assert (status, body["status"]) == (200, "healthy")
        assert await chat(server) == 200


async def test_a_given_admin_key_is_not_shown() -> None:
    async with served({}) as server:
        await server.line("^Try")
        assert await chat(server) == 200
    assert ADMIN_KEY not in server.output


async def test_a_short_admin_key_is_warned_about() -> None:
    async with served({"ADMIN_API_KEY": "a"}) as server:
        assert (await request("GET", f"{server.url}/health"))[0] == 200
        await server.line("ADMIN_API_KEY has a key of fewer than 16 characters")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_server_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    async with served({}) as server:
        assert await chat(server) == 200
        assert await server.end(number, 15) == 0
        assert "Traceback" not in server.output


async def test_environment_precedes_the_env_file(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    (checkout / ".env").write_text("GEMINI_CONCURRENCY_LIMIT=7\nGEMINI_RPM=8\nALLOW_ANONYMOUS=\n")
    env = {"PORT": "0", "LEDGER_URL": "memory://", "GEMINI_RPM": "9"}
    arguments = [*SERVE, "--allow-anonymous", "generate_text"]
    async with started(arguments, env, checkout, r"^Serving on (\S+)") as server:
        _, _, body = await request("GET", f"{server.url}/health")
        assert (body["concurrency_limit"], body["limits"]["default"]["rpm"]) == (7, 9)
        status, _, _ = await request("POST", f"{server.url}/generate_text", json={"prompt": "Hello"})
        assert status == 401


async def test_anonymous_option_admits_anonymous_callers() -> None:
    env = {"PORT": "0", "LEDGER_URL": "memory://"}
    async with started([*SERVE, "--allow-anonymous", "generate_text"], env, ready=r"^Serving on (\S+)") as server:
        status, _, body = await request("POST", f"{server.url}/generate_text", json={"prompt": "Hello"})
        assert (status, bool(body["generated_text"])) == (200, True)
        status, _, _ = await request("POST", f"{server.url}/chat", json={"prompt": "Hello"})
        assert status == 401


async def test_port_in_use_error_is_one_sentence() -> None:
    async with served({}) as server:
        port = server.url.rpartition(":")[2]
        said = await refused({"PORT": port})
    assert (
        said == f"Port {port} on 127.0.0.1 cannot be used (Address already in use). Set PORT or HOST to another value."
    )


async def test_unknown_host_error_has_the_resolvers_text() -> None:
    said = await refused({"HOST": "host.invalid"})
    assert " on host.invalid cannot be used (" in said
    assert "Unknown error" not in said
    assert "bind" not in said


async def test_unwritable_ledger_error_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = await refused({"LEDGER_URL": f"sqlite:///{tmp_path}/file/ledger.db"})
    assert said.startswith("LEDGER_URL cannot be used: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"GEMINI_RPM": "many"}, "GEMINI_RPM"),
        ({"GEMINI_API_KEY": '"AQ.a-quoted-key"'}, "GEMINI_API_KEY is in quotes"),
        ({"GEMINI_BASE_URL": "http://127.0.0.1:1/v1beta/openai"}, "set http://127.0.0.1:1."),
        ({"LEDGER_URL": "sqlite:////"}, "LEDGER_URL"),
        ({"WORKERS": "2"}, "WORKERS"),
        ({"ALLOW_ANONYMOUS": "chat"}, "ALLOW_ANONYMOUS names chat"),
        ({"EMULATOR_TIER": "gold"}, "EMULATOR_TIER"),
    ],
)
async def test_wrong_setting_error_is_one_sentence(env: dict[str, str], told: str) -> None:
    said = await refused(env)
    assert told in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("lost_s", "counted"),
    [([5.0], 1), ([1.0, 61.0], 1), ([1.0, 60.9], 2), ([0.0, 30.0, 59.0], 3), ([0.0, 61.0, 62.0], 2)],
)
def test_only_workers_lost_within_a_minute_count(lost_s: list[float], counted: int) -> None:
    assert len(recent(lost_s)) == counted


def children(server: Running) -> list[int]:
    """The processes that the server started, which have not ended."""
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    pids = [int(pid) for file in tasks for pid in file.read_text().split()]
    return [pid for pid in pids if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"]


def modes_below(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mode & 0o777 for path in folder.rglob("*")}


class TestWorkers:
    def env(self, tmp_path: Path) -> dict[str, str]:
        return {"WORKERS": "2", "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"}

    async def test_they_share_the_port_and_end_together(self, tmp_path: Path) -> None:
        async with served(self.env(tmp_path)) as server:
            assert [await chat(server) for _ in range(6)] == [200] * 6
            assert await server.end(signal.SIGTERM, 25) == 0
        assert "Traceback" not in server.output

    async def test_a_lost_worker_is_replaced(self, tmp_path: Path) -> None:
        """A worker that the system kills ends its own requests and nothing else."""
        async with served(self.env(tmp_path)) as server:
            assert await chat(server) == 200
            before = set(children(server))
            os.kill(min(before), signal.SIGKILL)
            await server.line(r"^A worker process ended unexpectedly \(signal 9\); starting another one\.$")
            await eventually(lambda: len(children(server)) == 2, within_s=30)
            assert set(children(server)) & before == {max(before)}
            assert [await chat(server) for _ in range(6)] == [200] * 6
            assert await server.end(signal.SIGTERM, 50) == 0
        assert "Traceback" not in server.output

    async def test_three_lost_workers_stop_the_server(self, tmp_path: Path) -> None:
        async with served(self.env(tmp_path)) as server:
            for lost in range(1, 4):
                os.kill(min(children(server)), signal.SIGKILL)
                if lost < 3:
                    await eventually(lambda lost=lost: server.output.count("starting another one") == lost, within_s=30)
                    await eventually(lambda: len(children(server)) == 2, within_s=30)
            assert await server.ended(50) == 1
        assert "3 worker processes ended within 60 s" in server.output
        assert "Traceback" not in server.output

    async def test_its_files_are_its_owners_alone(self, tmp_path: Path) -> None:
        env = {
            "WORKERS": "1",
            "LEDGER_URL": f"sqlite:///{tmp_path}/l/ledger.db",
            "STORAGE_URL": f"file://{tmp_path}/s/i",
        }
        async with served({**env, "ALLOW_ANONYMOUS": "generate"}) as server:
            status, _, _ = await request("POST", f"{server.url}/generate", json={"prompt": "a cat"})
            assert status == 200
            modes = modes_below(tmp_path)
        assert {path.parent.name for path in modes} >= {"l", "s", "i", "images", "about"}
        assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}

    async def test_they_do_not_outlive_the_server_that_started_them(self, tmp_path: Path) -> None:
        # The output is read to its end by `ended`: it is closed only when the last worker has gone.
        async with served(self.env(tmp_path)) as server:
            assert await chat(server) == 200
            os.kill(server.process.pid, signal.SIGKILL)
            assert await server.ended(25) == -signal.SIGKILL


def test_what_the_tests_start_does_not_inherit_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_RPM", "1")
    assert environment({"PORT": "0"})["PORT"] == "0"
    assert "GEMINI_RPM" not in environment({})
