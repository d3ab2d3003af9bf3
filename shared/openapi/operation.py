"""What a function's models.py declares about its paths. Loading this does not load the generator of the specification. Pure.

models.py exports `Request` and `Answer`. A function with several paths, or with responses that are not JSON, also exports
`OPERATIONS`, which maps "POST /path" to an Operation. One whose errors have the format of another API exports `ERRORS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pydantic import BaseModel

from shared.generation import JsonObject
from shared.http.api_format import ApiFormat
from shared.http.bodies import GenerationBody
from shared.http.manifest import Access, Manifest
from shared.http.routes import parameter_names


class ErrorFormat(NamedTuple):
    """The errors of a compatible API, and the headers that its responses have in addition."""

    name: str
    """Of the schema."""
    schema: JsonObject
    api: ApiFormat
    """The `error` in its bodies has a `code` or a `type`."""
    headers: tuple[str, ...] = ()
    """With every response."""
    retry_headers: tuple[str, ...] = ()
    """Where the time of a retry is known."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. A model is None where the body is not JSON of this server."""

    answer: type[BaseModel] | None = None
    request: type[BaseModel] | None = None
    form: bool = False
    """Whether the request is a form (multipart/form-data). Its files are strings of the format `binary`."""
    summary: str | None = None
    """Replaces endpoint.json's description, which is about the whole function."""
    events: Sequence[type[BaseModel]] = ()
    """The data of the server-sent events, if the response may be a stream; an error's body is added."""
    media: Mapping[str, JsonObject] = field(default_factory=dict)
    """Other content types of the response: content type -> media type object."""
    below: Sequence[str] | None = None
    """The allowed values of a path's `*`; None: any."""
    path_parameters: Mapping[str, JsonObject] = field(default_factory=dict)
    """Name in the template -> parameter object without `name` and `in`. A name that is missing here is any string."""
    responses: Mapping[str, JsonObject] = field(default_factory=dict)
    """Other statuses, besides `status` and those of errors."""
    query: Mapping[str, JsonObject] = field(default_factory=dict)
    """Query parameters: name -> parameter object without `name` and `in`."""
    headers: Mapping[str, JsonObject] = field(default_factory=dict)
    """Headers of the request that only this operation reads, in the same form."""
    status: int = 200
    """Of success. 404: a path that is reserved, and always answers with an error."""
    embeds: bool = False
    """Whether Gemini makes embeddings for it, which count in the limits as generations do."""
    conforming: bool = False
    """Whether the answer may have to conform to a JSON Schema of the request; true for every answer whose `data` is an object."""
    anonymous: bool = False
    """Whether some of its requests need no credential where ALLOW_ANONYMOUS permits it, in a function that requires one."""
    in_session: bool = False
    """Whether its query or body may name a session, which may not be there."""
    pending: bool = False
    """Whether it needs a message that waits for an answer."""
    lines: Sequence[type[BaseModel]] = ()
    """The JSON lines of a response with the answers of a batch, which another request may carry on."""
    admin_only: bool = False
    """Requires the admin key in a function that is public otherwise."""
    errors: ErrorFormat | None = None
    """None: this gateway's own."""

    @property
    def generates(self) -> bool:
        """Whether it calls Gemini."""
        is_generation = self.request is not None and issubclass(self.request, GenerationBody)
        return self.embeds or bool(self.lines) or bool(self.events) or is_generation


def operations(manifest: Manifest, models: Mapping[str, Any]) -> dict[str, Operation]:
    """By "POST /path". `models` are the names in the function's models.py; {} if it has none. Paths in `also` are left to
    their owners. Raises ValueError for an operation or a path parameter that endpoint.json does not have."""
    default = Operation(models.get("Answer"), models.get("Request"))
    declared: Mapping[str, Operation] = models.get("OPERATIONS", {})
    patterns = {f"{method} {pattern}": pattern for pattern, methods in manifest.paths.items() for method in methods}
    if unknown := sorted(declared.keys() - patterns.keys()):
        raise ValueError(f"OPERATIONS of {manifest.name} has {', '.join(unknown)}, which endpoint.json does not have")
    for key, operation in declared.items():
        if unknown := sorted(operation.path_parameters.keys() - set(parameter_names(patterns[key]))):
            raise ValueError(f"{key} of {manifest.name} describes {', '.join(unknown)}, which its path does not have")
    errors: ErrorFormat | None = models.get("ERRORS")
    return {key: replace(declared.get(key, default), errors=errors) for key in patterns}


def access_of(manifest: Manifest, pattern: str, operation: Operation) -> Access:
    return "anonymous" if operation.anonymous else manifest.access_of(pattern)


def reads_credential(manifest: Manifest, pattern: str, operation: Operation) -> bool:
    return manifest.access_of(pattern) != "public" or operation.admin_only
