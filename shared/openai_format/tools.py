"""Tools and tool_choice as Gemini's tools and toolConfig. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from shared.errors import BadRequest
from shared.generation import JsonObject
from shared.http.bodies import Absent, Body, OrText, Rule, wrong

MAX_TOOLS = 512
NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.:-]{0,127}(?![\s\S])"
_NAME_RULE = Rule("must start with a letter or _, and have at most 128 characters A-Z, a-z, 0-9, '_', '.', ':' and '-'")
_FUNCTIONS_ONLY = Rule("must be function; other kinds of tools are not supported")
_FREE_TEXT = Rule("is not supported: Gemini's tools take JSON; send a function")

_WITHOUT_ARGUMENTS = {"type", "properties", "required", "additionalProperties", "title", "description", "$schema"}
"""Keywords that a schema of an object without properties may have."""

FunctionName = Annotated[str, Field(pattern=NAME_PATTERN), _NAME_RULE]


class Function(Body):
    name: FunctionName = Field(description="What the model calls it.")
    description: str | None = Field(None, description="When and how the model should call it.")
    parameters: dict[str, Any] | None = Field(None, description="JSON Schema of the arguments, passed on as it is.")
    strict: bool | None = Field(None, description="Whether the arguments must conform to the schema.")


class Tool(Body):
    type: Annotated[Literal["function"], _FUNCTIONS_ONLY] = Field("function", description="Always function.")
    function: Function = Field(description="A function that the model may call.")
    custom: Annotated[Absent, _FREE_TEXT] = None
    cache_control: Any = Field(None, description="Ignored: Gemini caches prompts by itself.")


class FunctionChoice(Body):
    name: FunctionName = Field(description="One of the tools.")


class AllowedTool(Body):
    type: Annotated[Literal["function"], _FUNCTIONS_ONLY] = "function"
    function: FunctionChoice


class AllowedTools(Body):
    mode: Literal["auto", "required"] = Field(description="Whether one of them must be called.")
    tools: list[AllowedTool] = Field(
        min_length=1, max_length=MAX_TOOLS, fail_fast=True, description="Those that may be called."
    )


class ToolChoice(Body):
    """A function that must be called, or the functions that may be."""

    type: Literal["function", "allowed_tools"] = Field(description="Which of the following fields it has.")
    function: FunctionChoice | None = Field(None, description="The function that must be called.")
    allowed_tools: AllowedTools | None = Field(None, description="The functions that may be called.")
    custom: Annotated[Absent, _FREE_TEXT] = None

    @model_validator(mode="after")
    def _of_its_type(self) -> ToolChoice:
        if getattr(self, self.type) is None:
            raise wrong(self.type, f"is required in a tool_choice of type {self.type}")
        return self


Choice = Annotated[str | ToolChoice | None, OrText("an object that names a function")]


def native_tools(tools: Sequence[Tool], *, search: bool) -> list[JsonObject]:
    """`search`: whether the model may search the web. Raises BadRequest for two functions of one name."""
    declared: dict[str, JsonObject] = {}
    for number, tool in enumerate(tools):
        name = tool.function.name
        if name in declared:
            raise BadRequest(
                f"tools[{number}].function.name is {name} a second time; give each function its own name.",
                field=f"tools[{number}].function.name",
            )
        declared[name] = _declaration(tool.function)
    native: list[JsonObject] = [{"functionDeclarations": list(declared.values())}] if declared else []
    return [*native, {"googleSearch": {}}] if search else native


def native_tool_config(choice: str | ToolChoice | None, tools: Sequence[Tool]) -> JsonObject | None:
    """None where Gemini's default, AUTO, is asked for. Raises BadRequest for a choice that is not among the tools."""
    strict = any(tool.function.strict for tool in tools)
    if choice is None:
        return _config("VALIDATED") if strict else None
    if not tools:
        if choice in ("none", "auto"):
            return None
        raise BadRequest("tool_choice needs tools; send them, or remove it.", field="tool_choice")
    if isinstance(choice, str):
        return _by_word(choice, strict)
    if choice.function is not None and choice.type == "function":
        named, mode = [choice.function.name], "ANY"
    else:
        assert choice.allowed_tools is not None  # By the model's own rule.
        named = [tool.function.name for tool in choice.allowed_tools.tools]
        # AUTO takes no list of names; VALIDATED lets the model answer with text too.
        mode = "ANY" if choice.allowed_tools.mode == "required" else "VALIDATED"
    declared = {tool.function.name for tool in tools}
    if missing := [name for name in named if name not in declared]:
        raise BadRequest(f"tool_choice names {missing[0]}, which is not among the tools.", field="tool_choice")
    return _config(mode, named)


def _by_word(choice: str, strict: bool) -> JsonObject | None:
    if choice == "auto":
        return _config("VALIDATED") if strict else None
    if choice in ("none", "required"):
        return _config("NONE" if choice == "none" else "ANY")
    raise BadRequest(
        "tool_choice must be none, auto, required, or an object that names a function.", field="tool_choice"
    )


def _config(mode: str, names: Sequence[str] = ()) -> JsonObject:
    calling: JsonObject = {"mode": mode}
    if names:
        calling["allowedFunctionNames"] = list(names)
    return {"functionCallingConfig": calling}


def _declaration(function: Function) -> JsonObject:
    native: JsonObject = {"name": function.name}
    if function.description:
        native["description"] = function.description
    if function.parameters and not _has_no_properties(function.parameters):
        native["parametersJsonSchema"] = function.parameters
    return native


def _has_no_properties(schema: JsonObject) -> bool:
    """Whether the schema is that of a function without arguments. Gemini rejects an object type without properties."""
    return (
        schema.get("type") == "object"
        and not schema.get("properties")
        and not schema.get("additionalProperties")
        and schema.keys() <= _WITHOUT_ARGUMENTS
    )
