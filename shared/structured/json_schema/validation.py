"""Validates a value with jsonschema, with keywords that charge their work. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import islice, pairwise
from typing import Any

from shared.generation import JsonObject
from shared.structured.json_schema.applicators import APPLICATORS, contains, dependencies
from shared.structured.json_schema.assertions import ASSERTIONS, Keyword
from shared.structured.json_schema.document import Document, InvalidSchema
from shared.structured.json_schema.formats import checker
from shared.structured.json_schema.numbers import is_integer, is_number
from shared.structured.json_schema.run import MAX_WORK, Run, TooCostly, current
from shared.structured.json_schema.unchecked import applied, unchecked
from shared.structured.json_schema.wording import pointer

_MAX_COLLECTED = 1000
_PROBE_WORK = 5_000
_DYNAMIC_WORK = 8
_PER_ENTRY = {"allOf", "anyOf", "oneOf", "prefixItems", "properties", "required"}
_PER_ENTRY |= {"dependentRequired", "dependentSchemas", "dependencies", "patternProperties"}
_PER_CHILD = {"items", "additionalItems", "contains", "propertyNames", "additionalProperties", "patternProperties"}
_PER_CHILD |= {"unevaluatedItems", "unevaluatedProperties"}


class Validation:
    """A validator for one document. Raises document.InvalidSchema."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.unchecked = unchecked(document)
        """JSON pointers of the keywords that the check skips."""
        self._validator = _validator_class(document.draft)(
            document.root, registry=document.registry, format_checker=checker()
        )
        self._reject_cycles()

    def _reject_cycles(self) -> None:
        """Validates one object before the schema is sent, because no answer could pass and each would be paid for."""
        try:
            self._errors({}, False, _PROBE_WORK, [])
        except RecursionError:
            pointer = cyclic_reference(self.document)
            rule = "is in a cycle of references for the same value; refer from a property or item"
            raise InvalidSchema(
                pointer, rule if pointer else "has too long a chain of references; shorten it"
            ) from None
        except TooCostly:
            pass

    def problems(
        self, value: Any, most: int, assert_formats: bool = False, max_work: int = MAX_WORK
    ) -> list[tuple[str, str]]:
        """At most `most` of the first thousand errors as (JSON pointer, message), nearest to the root first.

        If the work runs out, the errors found so far are returned. Raises TooCostly if there are none, and always if
        `max_work` is below MAX_WORK."""
        found: list[Any] = []
        try:
            self._errors(value, assert_formats, max_work, found)
        except TooCostly:
            if not found or max_work < MAX_WORK:
                raise
        except RecursionError:
            if not found:
                return [("", "is nested too deeply to be checked")]
        found.sort(key=lambda error: len(error.path))
        # Several paths through a schema may give the same error. A pointer may have a thousand steps, so few are built.
        different = dict.fromkeys((tuple(error.path), error.message) for error in found)
        told: dict[tuple[str, str], None] = {}
        for path, message in different:
            told[pointer(path), message] = None
            if len(told) == most:
                break
        return list(told)

    def _errors(self, value: Any, assert_formats: bool, max_work: int, found: list[Any]) -> None:
        """Appends the errors to `found`. Raises TooCostly and RecursionError."""
        token = current.set(Run(self.document, assert_formats, max_work))
        try:
            for error in islice(self._validator.iter_errors(value), _MAX_COLLECTED):
                found.append(error)
        finally:
            current.reset(token)


def cyclic_reference(document: Document) -> str:
    """The pointer of a reference in a cycle of schemas that apply to the same value; "" if there is none."""
    seen: set[int] = set()
    path: list[JsonObject] = []
    depth: dict[int, int] = {}
    pending = [iter([document.root])]
    while pending:
        schema = next(pending[-1], None)
        if schema is None:
            pending.pop()
            if path:
                del depth[id(path.pop())]
        elif id(schema) in depth:
            for one, following in pairwise([*path[depth[id(schema)] :], schema]):
                if any(target is following for target in document.leads(one)):
                    return f"{document.pointers[id(one)]}/{'$ref' if '$ref' in one else '$dynamicRef'}"
        elif id(schema) not in seen:
            seen.add(id(schema))
            depth[id(schema)] = len(path)
            path.append(schema)
            pending.append(iter(list(applied(document, schema))))
    return ""


def _counted(word: str, keyword: Keyword) -> Keyword:
    is_dynamic = word == "$dynamicRef"
    per_entry, per_child = word in _PER_ENTRY, word in _PER_CHILD

    def counted(validator: Any, value: Any, instance: Any, schema: JsonObject) -> Iterable[Any]:
        if instance is None and schema.get("nullable") is True:
            return ()
        # A dynamic reference is looked up in each resource on the path to it.
        work = _DYNAMIC_WORK + len(validator._resolver._previous) if is_dynamic else 1
        if per_entry and isinstance(value, list | dict):
            work += len(value)
        if per_child and isinstance(instance, list | dict):
            work += len(instance) * (len(value) if per_entry else 1)
        current.get().spend(work)
        return keyword(validator, value, instance, schema)

    return counted


@cache
def _validator_class(draft: str) -> Any:
    from jsonschema.validators import (  # type: ignore[import-untyped]
        Draft7Validator,
        Draft202012Validator,
        extend,
    )

    base = Draft202012Validator if draft == "2020-12" else Draft7Validator
    own = {**ASSERTIONS, **APPLICATORS, "contains": contains(draft)}
    words = {word: own.get(word, keyword) for word, keyword in base.VALIDATORS.items()}
    words["dependencies"] = dependencies
    types = base.TYPE_CHECKER.redefine_many(
        {"integer": lambda _, value: is_integer(value), "number": lambda _, value: is_number(value)}
    )
    counted = {word: _counted(word, keyword) for word, keyword in words.items()}
    return extend(base, counted, type_checker=types)
