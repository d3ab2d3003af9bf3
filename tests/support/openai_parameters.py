"""The table of OpenAI's parameters in shared/openai_format/README.md: `python -m tests.support.openai_parameters` writes it.

The rows are what openai-python can send (tests/openai_sdk/parameters.json); what each says stands beside the fields of ChatBody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from shared.http.bodies import Rule
from shared.openai_format.chat_body import ChatBody

ROOT = Path(__file__).parents[2]
SDK = ROOT / "tests" / "openai_sdk" / "parameters.json"
README = ROOT / "shared" / "openai_format" / "README.md"
BEGIN, END = "<!-- parameters: begin -->\n", "<!-- parameters: end -->\n"


class Row(NamedTuple):
    parameter: str
    """Like `messages[].content[].file`."""
    what: str
    """honoured, ignored or refused."""
    text: str


def sdk_parameters() -> list[str]:
    found: list[str] = json.loads(SDK.read_text())["POST /v1/chat/completions"]
    return found


def row(parameter: str) -> Row | None:
    """None for a parameter that no field reads. One inside a field that is refused or ignored as a whole has the row of that
    field."""
    model: type[BaseModel] | None = ChatBody
    made: Row | None = None
    read: list[str] = []
    for step in parameter.split("."):
        if model is None:
            return made
        field = _fields(model).get(step.removesuffix("[]"))
        if field is None:
            return None
        read.append(step)
        made = _row(".".join(read).removesuffix("[]"), field)
        if made.what != "honoured":
            return made
        model = _model_in(field.annotation)
    return made


def extensions() -> Iterator[Row]:
    """The parameters of a request that OpenAI's API does not have."""
    known = {parameter.partition(".")[0] for parameter in sdk_parameters()}
    for name, field in _fields(ChatBody).items():
        if name not in known and name != "credentials":
            yield _row(name, field)


def table() -> str:
    found = {made: None for parameter in sdk_parameters() if (made := row(parameter)) is not None}
    lines = ["| parameter | | |", "|---|---|---|"]
    lines += [f"| `{one.parameter}` | {one.what} | {one.text} |" for one in found]
    lines += ["", "Not in OpenAI's API:", "", "| parameter | | |", "|---|---|---|"]
    lines += [f"| `{one.parameter}` | {one.what} | {one.text} |" for one in sorted(extensions())]
    return "\n".join(lines) + "\n"


def _row(parameter: str, field: FieldInfo) -> Row:
    rule = next((one.text for one in field.metadata if isinstance(one, Rule)), "")
    text = field.description or ""
    if field.annotation is type(None):
        return Row(parameter, "refused", rule)
    for what in ("ignored", "refused"):
        if text.lower().startswith(what):
            return Row(parameter, what, text[len(what) :].lstrip(":; "))
    return Row(parameter, "honoured", text)


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {
        (str(field.validation_alias.choices[0]) if isinstance(field.validation_alias, AliasChoices) else name): field
        for name, field in model.model_fields.items()
    }


def all_fields(model: type[BaseModel] = ChatBody) -> Iterator[tuple[str, FieldInfo]]:
    """Every field of a body, with its model's name."""
    for name, field in model.model_fields.items():
        yield f"{model.__name__}.{name}", field
        if (inner := _model_in(field.annotation)) is not None:
            yield from all_fields(inner)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def written() -> str:
    """README.md with the table of today."""
    before, rest = README.read_text().split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    README.write_text(written())
