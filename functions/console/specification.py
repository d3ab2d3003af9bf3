"""Collects every function's manifest and models, and generates the specification."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from shared.http.content import Content
from shared.http.manifest import load_all
from shared.openapi.document import Server, document
from shared.openapi.operation import operations
from shared.settings.settings import Settings

FUNCTIONS = Path(__file__).resolve().parents[1]


def specification(settings: Settings) -> Content:
    """As JSON. Generated once per process, since functions and settings do not change while it runs."""
    return _specification(Server.of(settings))


@lru_cache(maxsize=4)
def _specification(server: Server) -> Content:
    functions = [(manifest, operations(manifest, models_of(manifest.name))) for manifest in load_all(FUNCTIONS)]
    return Content(orjson.dumps(document(functions, server)), "application/json")


def models_of(name: str) -> Mapping[str, Any]:
    """The names in the function's models.py; empty if it has none."""
    module = f"functions.{name}.models"
    try:
        return vars(importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return {}
