"""The library's own event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest
from gemini_parallel.loop_thread import LoopThread


@pytest.fixture
def thread() -> LoopThread:
    return LoopThread("test")


async def twice(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_work_runs_in_another_thread(thread: LoopThread) -> None:
    async def name() -> str:
        return threading.current_thread().name

    assert (thread.call(twice(4)), thread.call(name())) == (8, "test")
    thread.stop()
    assert not thread.is_running


async def test_it_may_be_called_under_a_running_loop(thread: LoopThread) -> None:
    assert thread.call(twice(4)) == 8
    assert await asyncio.wrap_future(thread.submit(twice(5))) == 10
    thread.stop()


def test_a_call_on_the_loop_itself_is_an_error(thread: LoopThread) -> None:
    """It would wait for itself forever."""

    async def nested() -> None:
        thread.call(twice(1))

    with pytest.raises(RuntimeError, match="on the library's own event loop"):
        thread.call(nested())
    thread.stop()


def test_the_error_of_the_work_is_raised(thread: LoopThread) -> None:
    async def fail() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        thread.call(fail())
    thread.stop()


def test_an_interrupt_ends_the_work_first(thread: LoopThread) -> None:
    ended: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.1)  # Until the test waits.
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.01)
            ended.append("work")

    with pytest.raises(KeyboardInterrupt):
        thread.call(work())
    assert ended == ["work"]
    thread.stop()


def test_stopping_ends_what_is_left(thread: LoopThread) -> None:
    ended = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    future = thread.submit(work())
    thread.call(twice(1))
    thread.stop()
    assert ended.is_set() and future.cancelled()


def test_work_is_not_waited_for_on_a_loop_that_ended(thread: LoopThread) -> None:
    """An exception that ends the loop, like SystemExit in a callback of another library, ends the wait; then a loop is new."""

    async def die() -> None:
        asyncio.get_running_loop().call_soon(sys.exit)
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                continue

    first, excepthook = thread.loop, threading.excepthook
    threading.excepthook = lambda arguments: None
    try:
        with pytest.raises(RuntimeError, match="ended before the work"):
            thread.submit(die()).result(60)
    finally:
        threading.excepthook = excepthook
    assert thread.call(twice(2)) == 4
    assert thread.loop is not first
    thread.stop()


FORKED = """
import os
from gemini_parallel.loop_thread import LoopThread

async def twice(number):
    return 2 * number

thread = LoopThread("test")
assert thread.call(twice(1)) == 2
child = os.fork()
if not child:
    os._exit(0 if thread.call(twice(3)) == 6 else 1)
assert os.waitpid(child, 0)[1] == 0
assert thread.call(twice(2)) == 4
thread.stop()
"""


def test_a_child_of_a_fork_has_a_loop_of_its_own() -> None:
    """In a process with few threads: a fork copies the locks that others hold."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=60)
