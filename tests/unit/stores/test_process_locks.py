"""Who is gone: known of a process that has ended, however it ended, and never said of one that lives."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.stores.memory import MemoryStore
from shared.stores.process_locks import KEEP_S, ProcessLocks
from shared.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store.db-owners"


def new_owner() -> str:
    return secrets.token_hex(16)


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `script` until it says something."""
    prelude = "import os, sys, time\nfrom pathlib import Path\nfrom shared.stores.process_locks import ProcessLocks\n"
    command = [sys.executable, "-c", prelude + script, *map(str, arguments)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


CLAIM = """
ProcessLocks(Path(sys.argv[1])).claim(sys.argv[2])
os.write(1, b"ready\\n")
"""


def end(child: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    child.send_signal(sign)
    child.wait(10)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_ended_is_gone_and_one_that_lives_is_not(folder: Path, sign: signal.Signals) -> None:
    owner, owners = new_owner(), ProcessLocks(folder)
    with process(CLAIM + "time.sleep(60)", folder, owner) as child:
        assert not owners.gone(owner)
        child.send_signal(signal.SIGSTOP)
        assert not owners.gone(owner), "a frozen one may go on"
        child.send_signal(signal.SIGCONT)
        end(child, sign)
        assert [owners.gone(owner) for _ in range(3)] == [True] * 3
    assert ProcessLocks(folder).gone(owner), "everybody else can learn it too"


def test_a_process_that_ended_by_itself_is_gone(folder: Path) -> None:
    owner = new_owner()
    with process(CLAIM, folder, owner) as child:
        child.wait(10)
    assert ProcessLocks(folder).gone(owner)


def test_own_process_is_never_gone(tmp_path: Path) -> None:
    owner = new_owner()
    store = SqliteStore(tmp_path / "store.db")
    store.claim(owner)
    store.claim(owner)
    assert not store.gone(owner)
    assert not SqliteStore(tmp_path / "store.db").gone(owner)
    ask = "os.write(1, b'ready\\n%r' % ProcessLocks(Path(sys.argv[1])).gone(sys.argv[2]))"
    for _ in range(2):
        with process(ask, tmp_path / "store.db-owners", owner) as child:
            assert child.stdout is not None
            assert child.stdout.read() == b"False"
        # A probe of this process's own must not let go of the lock either.
        assert not SqliteStore(tmp_path / "store.db").gone(owner)


async def test_closing_a_store_does_not_end_its_claim(tmp_path: Path) -> None:
    owner = new_owner()
    store = SqliteStore(tmp_path / "store.db")
    store.claim(owner)
    await store.aclose()
    assert not SqliteStore(tmp_path / "store.db").gone(owner), "its sockets may still be open"


def test_unknown_owner_is_not_gone(folder: Path) -> None:
    assert not ProcessLocks(folder).gone(new_owner())
    ProcessLocks(folder).claim(new_owner())
    assert not ProcessLocks(folder).gone(new_owner())


def test_a_forked_child_does_not_keep_its_parents_claim_alive(folder: Path) -> None:
    owner = new_owner()
    script = CLAIM.replace('os.write(1, b"ready\\n")', "") + (
        "child = os.fork()\n"
        "if child == 0:\n    os.close(1); time.sleep(60); os._exit(0)\n"
        "os.write(1, b'ready\\n%d\\n' % child)\n"
        "time.sleep(60)\n"
    )
    with process(script, folder, owner) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            # The child lets go as soon as it runs; until then it could only be taken for alive.
            assert not ProcessLocks(folder).gone(owner)
            end(parent, signal.SIGKILL)
            assert eventually(lambda: ProcessLocks(folder).gone(owner))
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def eventually(condition: object, timeout_s: float = 5.0) -> bool:
    assert callable(condition)
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_claiming_process_is_not_gone(folder: Path) -> None:
    """Another process claims 200 times while this one asks for every name as soon as it appears."""
    script = """
owners = ProcessLocks(Path(sys.argv[1]))
os.write(1, b"ready\\n")
for i in range(200):
    owners.claim("%032x" % i)
Path(sys.argv[1], "done").touch()
time.sleep(60)
"""
    folder.mkdir()
    owners, asked = ProcessLocks(folder), 0
    with process(script, folder):
        while not (folder / "done").exists():
            for file in folder.iterdir():
                if len(file.name) == 32:
                    asked += 1
                    assert not owners.gone(file.name)
    assert asked > 200


def test_what_ended_is_swept_away_a_day_after_it_was_noticed(folder: Path) -> None:
    lived_long, owners = new_owner(), ProcessLocks(folder)
    with process(CLAIM, folder, lived_long) as child:
        child.wait(10)
    file, old = folder / lived_long, time.time() - KEEP_S - 60
    os.utime(file, (old, old))
    owners.claim(new_owner())
    assert owners.gone(lived_long), "its file is old, but nobody had noticed its end"
    assert file.stat().st_size == 0
    os.utime(file, (old, old))
    owners.claim(new_owner())
    assert not file.exists()


def test_a_living_owner_is_never_swept_away(folder: Path) -> None:
    owner, owners = new_owner(), ProcessLocks(folder)
    owners.claim(owner)
    old = time.time() - 3 * KEEP_S
    os.utime(folder / owner, (old, old))
    owners.claim(new_owner())
    assert (folder / owner).exists()
    assert (folder / owner).stat().st_size > 0


def test_leftovers_of_a_claim_are_removed(folder: Path) -> None:
    folder.mkdir()
    young, old = folder / f"{new_owner()}.new", folder / f"{new_owner()}.new"
    other = folder / "README"
    for file in (young, old, other):
        file.write_bytes(b"" if file == old else b"1")
    then = time.time() - KEEP_S - 60
    os.utime(old, (then, then))
    os.utime(other, (then, then))
    ProcessLocks(folder).claim(new_owner())
    assert (young.exists(), old.exists(), other.exists()) == (True, False, True)
    assert young.read_bytes() == b"1", "not even probed: whoever makes it is about to lock it"


@pytest.mark.parametrize("owner", ["", "short", "../" + "a" * 29, "G" * 32, "a" * 33, "a" * 32 + "\n"])
def test_an_owner_is_32_hex_digits(folder: Path, owner: str) -> None:
    for ask in (ProcessLocks(folder).claim, ProcessLocks(folder).gone):
        with pytest.raises(ValueError, match="32 hex digits"):
            ask(owner)


def test_the_files_tell_others_nothing(folder: Path) -> None:
    owner = new_owner()
    ProcessLocks(folder).claim(owner)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / owner).stat().st_mode & 0o777 == 0o600


def test_memory_store_knows_no_ended_process() -> None:
    store = MemoryStore()
    store.claim(new_owner())
    assert not store.gone(new_owner())
