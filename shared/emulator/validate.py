"""Validates what a well-formed request asks of a model, and rejects it in Google's words."""

from __future__ import annotations

import itertools
import re
from typing import Any, Protocol

from .errors import GoogleError, invalid
from .image_sizes import check_image_config
from .models import IMAGE, Model
from .signatures import Backend, check_signatures

MAX_CANDIDATES = 8
_DATA = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)
_MIME_TYPES = ("text/plain", "application/json", "application/xml", "application/yaml", "text/x.enum")
_STORED = re.compile(r"(?:/|\A)files/([^/?]+)\Z")
_FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")


class StoredFiles(Protocol):
    """The files of the caller's project."""

    def state(self, name: str) -> str | None:
        """PROCESSING or ACTIVE; None if there is no such file."""
        ...


def check_generate(
    request: dict[str, Any],
    model: Model,
    *,
    signatures: bool,
    backend: Backend = "gemini",
    files: StoredFiles | None = None,
) -> None:
    """Raises GoogleError for a normalised GenerateContentRequest that the model would refuse. `signatures`: function
    calls of the current turn must carry their thought signatures."""
    check_contents(request, files)
    check_signatures(request["contents"], backend)
    _check_turns(request["contents"], signatures=signatures)
    _check_tools(request)
    _check_config(request.get("generationConfig", {}), model)
    if "cachedContent" in request:
        raise GoogleError(403, "CachedContent not found (or permission denied)")


def check_contents(request: dict[str, Any], files: StoredFiles | None = None) -> None:
    contents = request.get("contents")
    if not contents:
        raise _field("contents", "contents is not specified")
    for index, content in enumerate(contents):
        if content.get("role", "") not in ("", "user", "model"):
            raise invalid("Please use a valid role: user, model.")
        parts = content.get("parts")
        if not parts:
            raise _field(f"contents[{index}].parts", "contents.parts must not be empty.")
        for number, part in enumerate(parts):
            if not any(name in part for name in _DATA):
                where = f"contents[{index}].parts[{number}].data"
                raise _field(where, "required oneof field 'data' must have one initialized field")
            _check_media(part, files)
    if not any(_has_input(part) for content in contents for part in content["parts"]):
        raise invalid("Request has empty input.")
    if contents[-1].get("role") == "model":
        raise invalid("Requests ending with a model turn are not supported.")


def _has_input(part: dict[str, Any]) -> bool:
    return bool(part.get("text")) or any(name in part for name in _DATA[1:])


def _check_media(part: dict[str, Any], files: StoredFiles | None) -> None:
    blob, file = part.get("inlineData"), part.get("fileData")
    if blob is not None and not blob.get("mimeType"):
        raise invalid("Unable to process input: the mime_type of inline_data must be set.")
    if file is not None and (match := _STORED.search(file.get("fileUri", ""))):
        state = files.state(f"files/{match[1]}") if files is not None else None
        if state is None:
            raise GoogleError(403, f"You do not have permission to access the File {match[1]} or it may not exist.")
        if state != "ACTIVE":
            raise GoogleError(
                400,
                f"The File {match[1]} is not in an ACTIVE state and usage is not allowed.",
                status="FAILED_PRECONDITION",
            )
    for inner in part.get("functionResponse", {}).get("parts", ()):
        _check_media(inner, files)


def _check_turns(contents: list[dict[str, Any]], *, signatures: bool) -> None:
    """Function calls must be answered one for one, and those of the current turn must have kept their signatures."""
    for before, content in itertools.pairwise(contents):
        answers = sum("functionResponse" in part for part in content["parts"])
        calls = sum("functionCall" in part for part in before["parts"])
        if answers and answers != calls:
            raise invalid(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
    if not signatures:
        return
    asked = [i for i, content in enumerate(contents) if content.get("role") != "model" and _asks(content)]
    for index in range(asked[-1] if asked else 0, len(contents)):
        calls_here = [part for part in contents[index]["parts"] if "functionCall" in part]
        # Parallel calls share one signature, which is on the first of them.
        if calls_here and not calls_here[0].get("thoughtSignature"):
            name = calls_here[0]["functionCall"].get("name", "")
            raise invalid(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
                f"data, function call `default_api:{name}` , position {index + 1}. Please refer to "
                "https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            )


def _asks(content: dict[str, Any]) -> bool:
    return any(part.get("text") for part in content["parts"])


def _check_tools(request: dict[str, Any]) -> None:
    declared: set[str] = set()
    for number, tool in enumerate(request.get("tools", ())):
        for index, function in enumerate(tool.get("functionDeclarations", ())):
            name = function.get("name", "")
            where = f"tools[{number}].function_declarations[{index}]"
            if not _FUNCTION_NAME.fullmatch(name):
                raise _field(
                    f"{where}.name",
                    "Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, "
                    "0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 128.",
                )
            if "parameters" in function and "parametersJsonSchema" in function:
                raise _field(f"{where}.parameters", "parameters and parameters_json_schema are mutually exclusive.")
            declared.add(name)
    calling = request.get("toolConfig", {}).get("functionCallingConfig", {})
    if calling.get("mode") == "ANY" and not declared:
        raise invalid("Function calling config is set without function_declarations.")
    for index, name in enumerate(calling.get("allowedFunctionNames", ())):
        if name not in declared:
            where = f"tool_config.function_calling_config.allowed_function_names[{index}]"
            raise _field(where, f"`{name}` is not one of the declared functions.")


def _check_config(config: dict[str, Any], model: Model) -> None:
    _check_range(config, "candidateCount", "candidate_count", 1, MAX_CANDIDATES)
    _check_range(config, "temperature", "temperature", 0, 2)
    _check_range(config, "topP", "top_p", 0, 1)
    if config.get("maxOutputTokens", 1) < 1:
        raise _field("generation_config.max_output_tokens", "max_output_tokens must be positive.")
    makes = {"TEXT", "IMAGE"} if model.kind == IMAGE else {"TEXT"}
    asked = set(config.get("responseModalities", ())) - makes - {"MODALITY_UNSPECIFIED"}
    if asked:
        raise invalid(
            f"Model does not support the requested response modalities: {','.join(sorted(asked)).lower()}",
        )
    if model.kind == IMAGE:
        _check_image(config, model)
    _check_format(config)
    _check_thinking(config.get("thinkingConfig", {}), model)


def _check_image(config: dict[str, Any], model: Model) -> None:
    if config.get("candidateCount", 1) != 1:
        raise invalid("Multiple candidates is not enabled for this model")
    if config.get("responseMimeType", "text/plain") != "text/plain":
        raise invalid("JSON mode is not enabled for this model")
    check_image_config(config.get("imageConfig", {}), model.id)


def _check_range(config: dict[str, Any], name: str, proto_name: str, low: int, high: int) -> None:
    value = config.get(name, low)
    if not low <= value <= high:
        raise _field(f"generation_config.{proto_name}", f"{proto_name} must be in the range [{low}, {high}].")


def _check_format(config: dict[str, Any]) -> None:
    mime_type = config.get("responseMimeType", "text/plain")
    if mime_type not in _MIME_TYPES:
        listed = ", ".join(f"`{name}`" for name in _MIME_TYPES[:-1])
        raise _field("generation_config.response_mime_type", f"allowed mimetypes are {listed} and `{_MIME_TYPES[-1]}`.")
    openapi, json_schema = "responseSchema" in config, "responseJsonSchema" in config
    if openapi and json_schema:
        raise _field(
            "generation_config.response_json_schema",
            "response_schema must be omitted when response_json_schema is set.",
        )
    if openapi or json_schema:
        name = "response_schema" if openapi else "response_json_schema"
        if mime_type not in ("application/json", "text/x.enum"):
            raise _field(
                f"generation_config.{name}",
                f"{name} is only supported with response_mime_type `application/json` or `text/x.enum`.",
            )
    if mime_type == "text/x.enum" and not config.get("responseSchema", {}).get("enum"):
        raise _field("generation_config.response_schema", "`text/x.enum` requires a response_schema with an enum.")


def _check_thinking(thinking: dict[str, Any], model: Model) -> None:
    level, budget = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
    if level is not None and budget is not None:
        raise invalid("You can only set only one of thinking budget and thinking level.")
    if level not in (None, "THINKING_LEVEL_UNSPECIFIED", *model.levels):
        if not model.levels:
            raise invalid("Thinking level is not supported for this model.")
        raise invalid(
            f"Thinking level {level} is not supported for this model. Please retry with other thinking level.",
        )
    if budget is not None and (model.budget_min is None or (budget != -1 and budget < model.budget_min)):
        raise invalid()


def _field(path: str, text: str) -> GoogleError:
    return invalid(f"* GenerateContentRequest.{path}: {text}\n")
