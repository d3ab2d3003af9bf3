"""One request from its arrival to its last byte: its concurrency slot, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time

from .errors import exhausted
from .server import Request
from .stats import ProjectRecord, Stats

_NO_LINGER = struct.pack("ii", 1, 0)


class Aborted(Exception):
    """A fault closed the connection; no response can be sent."""


class Exchange:
    """`open` takes a slot; `done` releases it, or the client's disconnect does. If work does not end with the connection
    (`EmulatorConfig.cancels`), the slot is released when the answer would have been complete."""

    def __init__(self, stats: Stats, request: Request) -> None:
        self._stats = stats
        self._request = request
        self.key = ""
        self._project: ProjectRecord | None = None
        self._ended = False
        self._ready_s = 0.0
        request.on_lost(self.lost)

    def open(self, project: ProjectRecord) -> None:
        """Takes a concurrency slot. Raises GoogleError 429 if the project has none left."""
        if not project.take_slot():
            raise exhausted("concurrency")
        self._project = project

    def works_until(self, ready_s: float) -> None:
        """When the answer will be complete (CLOCK_MONOTONIC)."""
        self._ready_s = ready_s

    def done(self, outcome: str) -> None:
        """Record that everything was passed to the transport. Only the first end counts."""
        if not self._ended:
            self._ended = True
            self._request.on_lost(None)
            if self._project is not None:
                self._project.free_slot()
            self._stats.answered(outcome, self.key)

    def lost(self) -> None:
        """Record that the client disconnected before everything was passed to the transport."""
        if self._ended:
            return
        self._stats.disconnects += 1
        left_s = self._ready_s - time.monotonic()
        project = self._project
        if project is not None and left_s > 0 and not self._stats.cancels:
            self._project = None
            asyncio.get_running_loop().call_later(left_s, project.free_slot)
        self.done("disconnected")

    def close(self) -> None:
        """Record that the handler ended, in whatever way."""
        self.done("aborted")

    def hang_up(self) -> None:
        """Closes the connection after what was written, without ending the response."""
        self.done("aborted")
        if (transport := self._request.transport) is not None:
            transport.close()

    def reset(self) -> None:
        """Closes the connection so that the peer sees a reset (RST), whatever was written."""
        self.done("aborted")
        if (transport := self._request.transport) is not None:
            sock = transport.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            transport.abort()
