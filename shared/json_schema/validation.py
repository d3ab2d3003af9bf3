"""What a value has against a schema: jsonschema's validator, with keywords that count their work. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import islice
from typing import Any

from shared.generation import JsonObject
from shared.json_schema.applicators import APPLICATORS, contains, dependencies
from shared.json_schema.assertions import ASSERTIONS, Keyword
from shared.json_schema.document import Document
from shared.json_schema.endings import refuse_endless
from shared.json_schema.formats import checker
from shared.json_schema.numbers import is_integer, is_number
from shared.json_schema.run import Run, TooCostly, current
from shared.json_schema.unchecked import unchecked
from shared.json_schema.wording import pointer

_MOST_COLLECTED = 1000
_DYNAMIC_WORK = 8
_PER_ENTRY = {"allOf", "anyOf", "oneOf", "prefixItems", "properties", "required"}
_PER_ENTRY |= {"dependentRequired", "dependentSchemas", "dependencies", "patternProperties"}
_PER_CHILD = {"items", "additionalItems", "contains", "propertyNames", "additionalProperties", "patternProperties"}
_PER_CHILD |= {"unevaluatedItems", "unevaluatedProperties"}


class Validation:
    """A document ready to validate by. Raises document.Refused."""

    def __init__(self, document: Document) -> None:
        refuse_endless(document)
        self.document = document
        self.unchecked = unchecked(document)
        """JSON pointers of the keywords that are left out of the check."""
        self._validator = _validator_class(document.draft)(
            document.root, registry=document.registry, format_checker=checker()
        )

    def problems(self, value: Any, most: int, assert_formats: bool = False) -> list[tuple[str, str]]:
        """(JSON pointer, message), nearest to the root first; found among the first thousand."""
        found, fault = self.errors(value, assert_formats)
        if fault and not found:
            return [("", fault)]
        found.sort(key=lambda error: len(error.path))
        # Two ways through a schema may say the same.
        return list(dict.fromkeys((pointer(error.path), error.message) for error in found))[:most]

    def errors(self, value: Any, assert_formats: bool = False) -> tuple[list[Any], str]:
        """What was found, and why the validation did not end, if so."""
        found: list[Any] = []
        token = current.set(Run(self.document, assert_formats))
        try:
            for error in islice(self._validator.iter_errors(value), _MOST_COLLECTED):
                found.append(error)
        except TooCostly:
            return found, "is too costly to check against this schema: ask for less, or simplify the schema"
        except RecursionError:
            return found, "is nested too deeply to be checked"
        finally:
            current.reset(token)
        return found, ""


def _counted(word: str, keyword: Keyword) -> Keyword:
    least = _DYNAMIC_WORK if word == "$dynamicRef" else 1
    per_entry, per_child = word in _PER_ENTRY, word in _PER_CHILD

    def counted(validator: Any, value: Any, instance: Any, schema: JsonObject) -> Iterable[Any]:
        if instance is None and schema.get("nullable") is True:
            return ()
        work = least
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
