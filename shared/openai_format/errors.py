"""Errors in OpenAI's format, so that its SDKs raise the right class. Pure.

Type and code as OpenAI documents them (platform.openai.com/docs/guides/error-codes).
"""

from __future__ import annotations

from shared.errors import GatewayError
from shared.generation import JsonObject


def error_body(error: GatewayError, request_id: str) -> JsonObject:
    return {
        "error": {"message": error.message, "type": "invalid_request_error", "param": None, "code": error.code},
        "request_id": request_id,
    }
