"""The media of the library's items."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.batch.body import LoadPart
from shared.batch.item import Item, Medium
from shared.bounds.byte_budget import ByteBudget
from shared.errors import BadRequest
from shared.generation import JsonObject


class LocalFiles:
    def __init__(self, byte_budget: ByteBudget) -> None:
        self._byte_budget = byte_budget

    @asynccontextmanager
    async def loading(self, item: Item) -> AsyncIterator[LoadPart]:
        async def load(medium: Medium) -> JsonObject:
            raise BadRequest(f"{medium.where} cannot be read.", field=medium.where)

        yield load

    async def aclose(self) -> None:
        return None
