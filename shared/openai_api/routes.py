"""Which handler answers which path of OpenAI's API."""

from __future__ import annotations

from shared.http.handlers import Handlers

HANDLERS = Handlers(
    __package__,
    {
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
    },
)
