"""Tells the rest of the process that its server has begun to stop: it takes no more requests, and is killed after some seconds.

Neither gunicorn nor uvicorn tells the application before all requests have ended, and a stream may last for minutes. But uvicorn
tells each connection at once (`BoundedProtocol.shutdown`), locally and when deployed.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet


class Listener(Protocol):
    def server_stops(self) -> None:
        """Called once, on the event loop of the server."""
        ...


_listeners: WeakSet[Listener] = WeakSet()


def listen(listener: Listener) -> None:
    _listeners.add(listener)


def begin() -> None:
    """Calls each listener once, however often it is called: the server calls it for each connection."""
    while _listeners:
        _listeners.pop().server_stops()
