"""Which errors an operation may return, and what each of them means. Pure.

An operation may return the errors that share a trait with it. A test requires a row for each error of shared.errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_origin

from shared import errors
from shared.errors import GatewayError
from shared.http.api_format import OWN, ApiFormat
from shared.http.manifest import Manifest
from shared.http.routes import is_literal
from shared.openapi.operation import Operation, access_of, reads_credential

Trait = Literal[
    "always",
    "credential",
    "anonymous",
    "body",
    "path",
    "generation",
    "caller_key",
    "query",
    "range",
    "storage",
    "object",
    "session",
    "pending",
    "batch",
]


class Failure(NamedTuple):
    traits: frozenset[Trait]
    meaning: str = ""
    """Shown after the code; empty where the code is enough."""


def _on(*traits: Trait, meaning: str = "") -> Failure:
    return Failure(frozenset(traits), meaning)


FAILURES: dict[type[GatewayError], Failure] = {
    errors.GatewayError: _on(
        "always", meaning="an internal error; the server's log has the details under the request id"
    ),
    errors.BadRequest: _on(
        "body", "credential", "query", meaning="an invalid request; `details` names the field or header"
    ),
    errors.CostExceedsLimit: _on("generation", meaning="the request alone exceeds a limit"),
    errors.PromptBlocked: _on("generation", meaning="Gemini blocked the prompt, with its reason"),
    errors.RejectedByGemini: _on("generation", meaning="Gemini's INVALID_ARGUMENT, with its message"),
    errors.Unauthorized: _on("credential", meaning="no valid credential"),
    errors.InvalidGeminiKey: _on("caller_key", meaning="Google rejected the caller's own key"),
    errors.Forbidden: _on("anonymous", meaning="a request without a credential from a page of another origin"),
    errors.NotFound: _on("path", "session"),
    errors.ModelNotFound: _on("generation"),
    errors.MethodNotAllowed: _on(meaning="with Allow"),
    errors.StaleConfiguration: _on(meaning="the configuration has changed since the version that the request names"),
    errors.NothingPending: _on("pending", meaning="the session has no message that waits for an answer"),
    errors.BatchBusy: _on("batch", meaning="another request carries the batch on; with Retry-After"),
    errors.BatchDiffers: _on("batch", meaning="the batch_id belongs to other items"),
    errors.PayloadTooLarge: _on("body"),
    errors.UnsupportedMediaType: _on("body"),
    errors.RangeNotSatisfiable: _on("range", meaning="with Content-Range"),
    errors.RateLimited: _on("generation", "anonymous", meaning="a rate limit is exceeded; with Retry-After"),
    errors.QueueTimeout: _on("generation", meaning="the request cannot be served before its deadline"),
    errors.CallerNoQuota: _on(
        "caller_key", meaning="the caller's own key has no quota for the model, or exceeded its spending limit"
    ),
    errors.DailyQuotaExhausted: _on("generation", meaning="resets at midnight Pacific time"),
    errors.CallerGone: _on(meaning="logged, never sent"),
    errors.UpstreamFailed: _on("generation", meaning="Gemini failed, with its reason"),
    errors.ResponseBlocked: _on("generation", meaning="Gemini stopped without text, for a reason other than STOP"),
    errors.EmptyResponse: _on("generation", meaning="Gemini finished without text, for example at MAX_TOKENS"),
    errors.NonconformingAnswer: _on("object", meaning="Gemini's JSON violates the schema, also after one repair"),
    errors.Unavailable: _on("always", meaning="with Retry-After"),
    errors.LedgerUnavailable: _on("generation"),
    errors.NoServerKey: _on("generation", meaning="the admin key is valid, but no account can serve"),
    errors.NoQuota: _on(
        "generation", meaning="the server's project has no quota for the model, or exceeded its spending limit"
    ),
    errors.QueueFull: _on("generation", meaning="the queue is full (byte limit)"),
    errors.StorageUnavailable: _on("storage", meaning="images or files cannot be stored or read"),
    errors.UpstreamTimeout: _on("generation"),
}


def traits_of(manifest: Manifest, pattern: str, operation: Operation) -> set[Trait]:
    """What the operation does that may fail."""
    traits: dict[Trait, bool] = {
        "always": True,
        "credential": reads_credential(manifest, pattern, operation),
        "anonymous": access_of(manifest, pattern, operation) == "anonymous",
        "body": operation.request is not None,
        "path": not is_literal(pattern),
        "generation": operation.generates,
        "caller_key": operation.generates and manifest.access != "public",
        "query": bool(operation.query),
        "range": "206" in operation.responses,
        "storage": manifest.storage != "none",
        "object": operation.conforming or _has_object(operation),
        "session": operation.in_session,
        "pending": operation.pending,
        "batch": bool(operation.lines),
    }
    return {trait for trait, present in traits.items() if present}


def _has_object(operation: Operation) -> bool:
    """Whether the answer has `data`, an object that must conform to a schema."""
    data = operation.answer.model_fields.get("data") if operation.answer is not None else None
    return data is not None and get_origin(data.annotation) is not list


def tree(root: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    """Every error of shared.errors, parents first."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def failures(traits: set[Trait], api: ApiFormat = OWN) -> dict[int, list[type[GatewayError]]]:
    """Status in this API -> the errors that an operation with these traits may return."""
    result: dict[int, list[type[GatewayError]]] = {}
    for error in tree():
        if FAILURES[error].traits & traits:
            result.setdefault(api.public_error(error("")).status, []).append(error)
    return result
