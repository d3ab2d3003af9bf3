"""Which handler answers which path of OpenAI's API. A handler is imported by the first request for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from starlette.responses import Response

from shared.http.call import Call

Handler = Callable[[Call], Awaitable[Response]]

HANDLERS: dict[tuple[str, str], str] = {
    ("GET", "/v1/*"): "unbuilt:not_built",
    ("POST", "/v1/*"): "unbuilt:not_built",
    ("DELETE", "/v1/*"): "unbuilt:not_built",
    ("POST", "/v1/chat/completions"): "chat:chat_completions",
    ("GET", "/v1/models"): "models:list_models",
    ("GET", "/v1/models/{id}"): "models:retrieve_model",
    ("GET", "/v1/models/models/{id}"): "models:retrieve_model",
    ("GET", "/v1/status"): "status:status",
    ("GET", "/v1/files"): "files:list_files",
    ("POST", "/v1/files"): "files:create_file",
    ("GET", "/v1/files/{id}"): "files:describe_file",
    ("DELETE", "/v1/files/{id}"): "files:delete_file",
    ("GET", "/v1/files/{id}/content"): "files:file_content",
    ("POST", "/v1/embeddings"): "embeddings:create",
    ("POST", "/v1/images/edits"): "images:edits",
    ("POST", "/v1/images/generations"): "images:generations",
}
"""(method, pattern of endpoint.json) -> module of this package, and the name of its handler."""


def handler_for(method: str, route: str) -> Handler:
    module, name = HANDLERS["GET" if method == "HEAD" else method, route].split(":")
    found: Any = getattr(import_module(f"shared.openai_api.{module}"), name)
    handler: Handler = found
    return handler
