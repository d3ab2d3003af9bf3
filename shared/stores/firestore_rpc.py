"""The three Firestore calls that the store needs, as plain gRPC with Google's message types and without retries.

Reasons not to use a client of google-cloud-firestore (2.34.1, emulator, 2 KB value): AsyncClient's transactions lock the
documents that they read (a frozen process blocks all others) and retry a commit of unknown outcome. The generated
FirestoreAsyncClient does neither with `retry=None`, but takes a quarter more CPU (1.13 to 1.26 ms for a read and a commit;
here 0.92) and wraps every error. Importing the types takes 0.2 s, so this module is imported only for a Firestore URL.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

import google.auth
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcAsyncIOTransport
from google.cloud.firestore_v1.types import firestore as messages
from grpc import aio

from shared.stores.port import Put, StoreUnavailable

VALUE_FIELD = "s"
EXPIRY_FIELD = "expires_at"

_HOST = "firestore.googleapis.com:443"
_SERVICE = "/google.firestore.v1.Firestore/"
_SCOPES = ("https://www.googleapis.com/auth/datastore",)
_OPTIONS: tuple[tuple[str, int], ...] = (
    # A retry policy sent by the service would retry a commit whose outcome is unknown.
    ("grpc.service_config_disable_resolution", 1),
    # After a freeze the connection may be dead: a ping that is not answered within half of a call's usual timeout ends it,
    # and the call is sent again on a new one.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 2_500),
    ("grpc.initial_reconnect_backoff_ms", 200),
    # An attempt to connect may take so long: TLS at a cold start, or on a busy machine, takes longer than the first backoff.
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)

# The protobuf classes without Google's wrappers, which take a third of the CPU of a call.
_BatchGet = messages.BatchGetDocumentsRequest.pb()
_BatchGetReply = messages.BatchGetDocumentsResponse.pb()
_Commit = messages.CommitRequest.pb()
_CommitReply = messages.CommitResponse.pb()
_Query = messages.RunQueryRequest.pb()
_QueryReply = messages.RunQueryResponse.pb()


class Doc(NamedTuple):
    """A document; `version` (a protobuf Timestamp) is None if it does not exist. An expired one still has value and version."""

    value: bytes | None = None
    version: Any = None
    expires_at_ms: int | None = None


class Named(NamedTuple):
    name: str
    expires_at_ms: int | None
    read_ms: float


class Connection:
    """A channel to one database, bound to the running event loop and this process."""

    _process: ClassVar[int | None] = None

    def __init__(self, database: str, emulator_host: str | None, credentials: Any) -> None:
        self.reject_after_fork()
        Connection._process = os.getpid()
        self._database = database
        self._documents = f"{database}/documents"
        metadata = [
            ("google-cloud-resource-prefix", database),
            ("x-goog-request-params", f"database={quote(database, safe='')}"),
        ]
        if emulator_host is None:
            self._channel = FirestoreGrpcAsyncIOTransport.create_channel(
                _HOST, credentials=credentials, scopes=_SCOPES, options=_OPTIONS
            )
        else:
            self._channel = aio.insecure_channel(emulator_host, options=_OPTIONS)
            metadata.append(("authorization", "Bearer owner"))
        self._metadata = tuple(metadata)
        calls = self._channel
        self._batch_get = calls.unary_stream(
            _SERVICE + "BatchGetDocuments", _BatchGet.SerializeToString, _BatchGetReply.FromString
        )
        self._commit = calls.unary_unary(_SERVICE + "Commit", _Commit.SerializeToString, _CommitReply.FromString)
        self._run_query = calls.unary_stream(_SERVICE + "RunQuery", _Query.SerializeToString, _QueryReply.FromString)

    @classmethod
    def reject_after_fork(cls) -> None:
        """Raises StoreUnavailable in a process that was forked after a channel was opened: a fork copies no threads, so gRPC's
        calls would hang past their deadlines (seen with grpcio 1.85.1). A fork before the first channel is fine."""
        if cls._process not in (None, os.getpid()):
            raise StoreUnavailable("Firestore was used before this process was forked; use it only in the workers.")

    async def close(self) -> None:
        await self._channel.close()

    async def read(self, keys: Sequence[str], timeout_s: float) -> tuple[dict[str, Doc], float]:
        """The documents, and the server's time (ms since 1970) of the read. Raises aio.AioRpcError."""
        request = _BatchGet(database=self._database, documents=[f"{self._documents}/{key}" for key in keys])
        start = len(self._documents) + 1
        found, read_ms = {}, 0.0
        async for reply in self._batch_get(request, timeout=timeout_s, metadata=self._metadata):
            if reply.missing:
                found[reply.missing[start:]] = Doc()
            elif reply.HasField("found"):
                found[reply.found.name[start:]] = _doc(reply.found)
            read_ms = max(read_ms, _ms(reply.read_time))
        return found, read_ms

    async def commit(
        self, docs: Mapping[str, Doc], writes: Mapping[str, Put | None], timeout_s: float
    ) -> tuple[dict[str, Doc], float]:
        """Applies `writes` if all of `docs` still have their versions. Returns the documents after it, and the server's time.

        A document without a write is included too, with a write that changes nothing: its version is compared like the
        others and stays the same. Raises aio.AioRpcError."""
        request = _Commit(database=self._database)
        for key, doc in docs.items():
            write = request.writes.add()
            self._describe(write, f"{self._documents}/{key}", doc, key in writes, writes.get(key))
            if doc.version is None:
                write.current_document.exists = False
            else:
                write.current_document.update_time.CopyFrom(doc.version)
        reply = await self._commit(request, timeout=timeout_s, metadata=self._metadata)
        now = dict(docs)
        for key, result in zip(docs, reply.write_results, strict=True):
            if key in writes:
                put = writes[key]
                now[key] = Doc() if put is None else Doc(put.value, result.update_time, put.expires_at_ms)
        return now, _ms(reply.commit_time)

    def _describe(self, write: Any, name: str, doc: Doc, changes: bool, put: Put | None) -> None:
        if put is not None:
            write.update.name = name
            write.update.fields[VALUE_FIELD].bytes_value = put.value
            if put.expires_at_ms is not None:
                write.update.fields[EXPIRY_FIELD].timestamp_value.FromMilliseconds(put.expires_at_ms)
        elif changes or doc.version is None:
            write.delete = name
        else:
            write.update.name = name
            write.update_mask.SetInParent()

    async def names(
        self, collection: str, bounds: Mapping[str, str], limit: int, timeout_s: float
    ) -> AsyncIterator[Named]:
        """The sorted ids of a collection, without values; `bounds`: operator -> id. Raises aio.AioRpcError."""
        request = _Query(parent=self._documents)
        query = request.structured_query
        query.from_.add().collection_id = collection
        query.select.fields.add().field_path = EXPIRY_FIELD
        query.order_by.add().field.field_path = "__name__"
        query.limit.value = limit
        for operator, name in bounds.items():
            query.where.composite_filter.op = query.where.composite_filter.Operator.Value("AND")
            term = query.where.composite_filter.filters.add().field_filter
            term.field.field_path = "__name__"
            term.op = term.Operator.Value(operator)
            term.value.reference_value = f"{self._documents}/{collection}/{name}"
        start = len(self._documents) + 1 + len(collection) + 1
        async for reply in self._run_query(request, timeout=timeout_s, metadata=self._metadata):
            if reply.HasField("document"):
                yield Named(reply.document.name[start:], _expiry(reply.document), _ms(reply.read_time))


def default_credentials() -> Any:
    """Blocks, since it may call the metadata server. Raises google.auth.exceptions.GoogleAuthError."""
    credentials, _ = google.auth.default(scopes=_SCOPES)
    return credentials


def _doc(document: Any) -> Doc:
    return Doc(document.fields[VALUE_FIELD].bytes_value, document.update_time, _expiry(document))


def _expiry(document: Any) -> int | None:
    if EXPIRY_FIELD not in document.fields:
        return None
    return int(document.fields[EXPIRY_FIELD].timestamp_value.ToMilliseconds())


def _ms(time: Any) -> float:
    return float(time.seconds * 1000 + time.nanos / 1e6)
