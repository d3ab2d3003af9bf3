"""Configures the server of functions-framework's command: gunicorn with uvicorn's worker, with our connection limits.

The platform starts that command, so its options cannot be set. But the command imports the function before it forks its
workers, and the function calls `configure`. Neither gunicorn nor uvicorn limits the number of requests here: gunicorn's
worker_connections and threads do not apply to uvicorn's worker, uvicorn's limit_concurrency is not set, and 2,048 connections
may wait to be accepted. What limits it are the open files (`bounds.open_files`) and `http.protocol`.
"""

from __future__ import annotations

import os
import sys

_COMMAND = "functions_framework._cli"


def configure() -> None:
    """Does nothing in processes that the command did not start."""
    if _COMMAND not in sys.modules:
        return
    from uvicorn_worker import UvicornWorker

    from shared.bounds.open_files import raise_open_files
    from shared.http.protocol import BoundedProtocol

    raise_open_files()
    # Clients can set X-Forwarded-*, so uvicorn must not trust it; behind Google's front end `auth.client_address` reads the
    # part that Google adds. The framework's --debug server reads the variable.
    os.environ["FORWARDED_ALLOW_IPS"] = ""
    UvicornWorker.CONFIG_KWARGS = {
        **UvicornWorker.CONFIG_KWARGS,
        "http": BoundedProtocol,
        "ws": "none",
        "proxy_headers": False,
        "server_header": False,
    }
