"""The bodies of /v1: what each path of OpenAI's API takes and returns."""

from __future__ import annotations

from shared.openapi.operation import Operation

OPERATIONS: dict[str, Operation] = {}
