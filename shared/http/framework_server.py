"""How functions-framework's command serves: gunicorn with uvicorn's worker, given our bounds before it makes one.

The platform starts that command itself, so its options cannot be set there; the framework imports the function first, in the
process that the workers are forked from. Only the command imports this module.
"""

from __future__ import annotations

import os
import sys

_COMMAND = "functions_framework._cli"


def configure() -> None:
    """Does nothing in a process that the command did not start."""
    if _COMMAND not in sys.modules:
        return
    from uvicorn_worker import UvicornWorker

    from shared.http.protocol import BoundedProtocol

    # X-Forwarded-* are the client's own words here: behind Google's front end `auth.client_address` reads the part that is
    # not, and elsewhere anybody may send them. The variable is what the framework's --debug server reads.
    os.environ["FORWARDED_ALLOW_IPS"] = ""
    UvicornWorker.CONFIG_KWARGS = {
        **UvicornWorker.CONFIG_KWARGS,
        "http": BoundedProtocol,
        "ws": "none",
        "proxy_headers": False,
        "server_header": False,
    }
