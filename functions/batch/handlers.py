"""What each path of /batch does."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from starlette.responses import Response

from functions.batch.carrying import Carrying, url_of
from functions.batch.lines import check_lines, items_of, lines_of_body
from functions.batch.models import ID_PATTERN, MAX_ITEMS, Request
from shared.batch.record import BatchRecord
from shared.batch.stored import StoredBatches
from shared.bounds.json_structure import MAX_VALUES
from shared.clock import unix_s
from shared.errors import BadRequest, NotFound
from shared.generation import JsonObject
from shared.http.bodies import read
from shared.http.call import Call
from shared.http.event_stream import EventStream, Framing
from shared.http.owner import owner_of
from shared.http.stored_files import count_upload

JSONL = frozenset({"application/jsonl", "application/x-ndjson", "application/x-jsonlines", "application/ndjson"})
FRAMING = Framing(
    error=lambda body: orjson.dumps({"type": "error", **body}) + b"\n",
    media_type="application/x-ndjson",
    keep_alive=b"\n",
)
MAX_RESPONSE_S = 265.0
"""A response ends by then in every case. Its link comes earlier (carrying.LINK_S); what was in flight is then finished."""
_ID = re.compile(ID_PATTERN)


async def create(call: Call) -> Response:
    """POST /batch. Raises BadRequest, BatchDiffers, BatchBusy."""
    _check_headers(call)
    asked, items = await _read(call)
    batch_id = asked.pop("batch_id", None) or secrets.token_urlsafe(16)
    # What may be long is stored with the items: the record is written again with every segment of results.
    common: dict[str, Any] = {name: asked.pop(name) for name in ("response_schema", "system_prompt") if name in asked}
    data = items_of(items, common)
    # Of what was sent: the operator may change the default model while a batch is open.
    digest = hashlib.blake2b(data + orjson.dumps(asked, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
    asked["model"] = call.model_for(asked.get("model"), "batch")
    # Anybody can invent a key, and a batch is kept for days.
    await count_upload(call, len(data))
    now_ms = int(unix_s() * 1000)
    await _batches(call).create(owner_of(call), batch_id, data, digest, len(items), asked, now_ms)
    return await _carried(call, batch_id, 0)


async def carry_on(call: Call) -> Response:
    """POST /batch/<id>. Raises BadRequest, NotFound, BatchBusy."""
    _check_headers(call)
    return await _carried(call, _id_of(call), _after(call))


async def describe(call: Call) -> JsonObject:
    """GET /batch/<id>. Raises NotFound."""
    batch_id = _id_of(call)
    record, now_ms = await _batches(call).describe(owner_of(call), batch_id)
    return {
        "batch_id": batch_id,
        "state": record.state(now_ms),
        "total": record.total,
        "done": record.done_count,
        "failed": record.failed,
        "created_at": _time(record.created_ms),
        "expires_at": _time(record.expires_ms),
        "url": url_of(batch_id, 0),
    }


async def _carried(call: Call, batch_id: str, after: int) -> Response:
    batches, owner = _batches(call), owner_of(call)
    record: BatchRecord = await batches.take(owner, batch_id)
    carrying = Carrying(call, batches, owner, batch_id, record, after)
    return EventStream(
        carrying.lines(), call.received_s + MAX_RESPONSE_S, dispatched_s=lambda: call.received_s, framing=FRAMING
    )


def _check_headers(call: Call) -> None:
    """Before a batch is stored or begun. Raises BadRequest."""
    _ = call.priority, call.patience


def _batches(call: Call) -> StoredBatches:
    return StoredBatches(call.services.store, lambda: call.services.files.objects)


async def _read(call: Call) -> tuple[dict[str, Any], list[bytes]]:
    """The options, and each item as JSON or as the line that was sent."""
    content_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type in JSONL:
        body = await call.body()
        items = await call.work(partial(lines_of_body, body))
        if len(body) > MAX_VALUES:
            await call.work(partial(check_lines, items))
        call.forget_body()
        options = read(Request, {**_options(call.request.query_params), "items": [{}]})
        if len(items) > MAX_ITEMS or not items:
            raise BadRequest(f"The body must have 1 to {MAX_ITEMS} lines, and has {len(items)}.", field="items")
    else:
        options, items = await call.read(Request, lambda sent: (sent, [orjson.dumps(item) for item in sent.items]))
    asked = options.model_dump(exclude={"items", "credentials"}, exclude_none=True)
    return asked, items


def _options(query: Mapping[str, str]) -> dict[str, Any]:
    """Options of a query as JSON values. Raises BadRequest."""
    found: dict[str, Any] = dict(query)
    found.pop("key", None)
    for name, kind in (("max_workers", int), ("api_call_interval", float)):
        if name in found:
            try:
                found[name] = kind(found[name])
            except ValueError:
                raise BadRequest(f"{name} must be a number.", field=name) from None
    if "response_schema" in found:
        try:
            found["response_schema"] = orjson.loads(found["response_schema"])
        except orjson.JSONDecodeError:
            raise BadRequest("response_schema must be JSON.", field="response_schema") from None
    return found


def _id_of(call: Call) -> str:
    batch_id = call.path_parameters.get("id", "")
    if not _ID.fullmatch(batch_id):
        raise NotFound("This key has no such batch; it may have expired.")
    return batch_id


def _after(call: Call) -> int:
    text = call.request.query_params.get("after", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text) <= MAX_ITEMS):
        raise BadRequest(f"after must be a whole number from 0 to {MAX_ITEMS}.", field="after")
    return int(text)


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
