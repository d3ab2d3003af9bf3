"""Translates between the native API and the assistant of Gemini Enterprise (its method `streamAssist`). Pure.

    native                                  assistant
    ------------------------------------------------------------------------------------------------------
    systemInstruction, contents             one text: the instruction, the conversation so far, the new message
    inline images, PDF and text files       context files of a session, named in the text where they stood
    tools: googleSearch                     toolsSpec.webGroundingSpec
    responseModalities with IMAGE           toolsSpec.imageGenerationSpec
    candidates, finishReason STOP           replies, state SUCCEEDED
    promptFeedback, or a finishReason       state SKIPPED, and why

The assistant has no parameters of generation. `missing_ability` names what cannot be expressed and would change what the answer
is. Hints (temperature, topP, topK, seed, penalties, maxOutputTokens, thinkingConfig, safetySettings) are not sent.

The assistant counts no tokens: its answers have no usageMetadata, so that their usage is unknown.
The fields are those of discoveryengine v1 (assistant_service.proto, assist_answer.proto) as of October 2026.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.gemini import wire
from shared.gemini.errors import UpstreamFailure
from shared.generation import JsonObject

MAX_FILES = 10
"""Files of one question (the Gemini app takes ten per prompt)."""
MAX_SHOWN_CHARS = 200

_FILE_TYPES = ("image/", "text/", "application/pdf")
_OUTPUT_CHANGES = {
    "responseSchema": "a response schema",
    "responseJsonSchema": "a response schema",
    "stopSequences": "stop sequences",
    "responseLogprobs": "log probabilities",
    "logprobs": "log probabilities",
    "speechConfig": "speech",
}
_PARTS = {
    "fileData": "uploaded files (fileData)",
    "functionCall": "function calls",
    "functionResponse": "function responses",
    "executableCode": "code execution",
    "codeExecutionResult": "code execution",
}
_STATES_OF_FAILURE = ("FAILED", "CANCELLED")
_BLOCKED = {"CUSTOMER_POLICY_VIOLATION": "BLOCKLIST"}
"""A customer's policy lists phrases that are banned (AssistSkippedReason). Every other reason is OTHER."""


@dataclass(frozen=True, slots=True)
class ContextFile:
    """A file of the question; `data` is base64 as the caller sent it."""

    name: str
    mime_type: str
    data: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Question:
    """What the assistant is asked. `thoughts`: the caller wants to see them."""

    text: str = field(repr=False)
    files: tuple[ContextFile, ...] = ()
    tools: Mapping[str, JsonObject] = field(default_factory=dict)
    thoughts: bool = False


# -- what an account of this kind cannot do --------------------------------------------------------------------------


def missing_ability(message: Mapping[str, Any], *, image_output: bool) -> str | None:
    """The first thing in a native request (camelCase) that the assistant cannot do; None if it can answer the request.
    `image_output`: whether this kind of account returns images."""
    if message.get("cachedContent"):
        return "cached content"
    if message.get("continuationToken"):
        return "continuation tokens"
    return _of_config(message.get("generationConfig"), image_output) or _of_tools(message) or _of_parts(message)


def _of_config(config: Any, image_output: bool) -> str | None:
    if not isinstance(config, Mapping):
        return None
    for name, ability in _OUTPUT_CHANGES.items():
        if config.get(name):
            return f"{ability} ({name})"
    if config.get("responseMimeType") not in (None, "", "text/plain"):
        return f"answers as {str(config['responseMimeType'])[:MAX_SHOWN_CHARS]} (responseMimeType)"
    if config.get("candidateCount") not in (None, 0, 1):
        return "more than one candidate (candidateCount)"
    modalities = {str(name).upper() for name in _list(config.get("responseModalities"))}
    for name in sorted(modalities & {"AUDIO", "VIDEO"}) + ([] if image_output else sorted(modalities & {"IMAGE"})):
        return f"{name.lower()} output (responseModalities)"
    return None


def _of_tools(message: Mapping[str, Any]) -> str | None:
    for tool in dicts(message.get("tools")):
        for name in tool:
            if name != "googleSearch":
                return f"tools ({name})"
    return None


def _of_parts(message: Mapping[str, Any]) -> str | None:
    files = 0
    for content in _all_contents(message):
        for part in dicts(content.get("parts")):
            for name, ability in _PARTS.items():
                if part.get(name) is not None:
                    return ability
            blob = part.get("inlineData")
            if isinstance(blob, Mapping):
                files += 1
                kind = str(blob.get("mimeType") or "")
                if not kind.lower().startswith(_FILE_TYPES):
                    return f"files of the type {kind[:MAX_SHOWN_CHARS] or 'unknown'} (inlineData)"
    return f"more than {MAX_FILES} files in one request" if files > MAX_FILES else None


# -- native request to question --------------------------------------------------------------------------------------


def question_of(message: Mapping[str, Any], *, makes_image: bool) -> Question:
    """The question for a native request (camelCase) of which nothing is missing. An API without roles gets the
    conversation as one text, so a caller's text can imitate a role; there is nobody else's text that it could reach."""
    files: list[ContextFile] = []
    system = _text(message.get("systemInstruction"), files)
    turns = [(content.get("role"), _text(content, files)) for content in dicts(message.get("contents"))]
    sections = [f"Follow this instruction:\n{system}"] if system else []
    if len(turns) > 1:
        said = "\n\n".join(f"{'Assistant' if role == 'model' else 'User'}: {text}" for role, text in turns[:-1])
        sections.append(f"The conversation so far:\n{said}")
    new = turns[-1][1] if turns else ""
    sections.append(f"Answer the user's new message:\n{new}" if sections else new)
    tools: dict[str, JsonObject] = {}
    if any("googleSearch" in tool for tool in dicts(message.get("tools"))):
        tools["webGroundingSpec"] = {}
    if makes_image:
        tools["imageGenerationSpec"] = {}
    thinking = mapping(mapping(message.get("generationConfig")).get("thinkingConfig"))
    return Question("\n\n".join(sections), tuple(files), tools, bool(thinking.get("includeThoughts")))


def _text(content: Any, files: list[ContextFile]) -> str:
    """The text of one content. Its files are appended to `files`, and named where they stood."""
    pieces: list[str] = []
    for part in dicts(mapping(content).get("parts")):
        blob = part.get("inlineData")
        if isinstance(blob, Mapping):
            mime_type = str(blob.get("mimeType"))
            name = f"file-{len(files) + 1}.{_extension(mime_type)}"
            files.append(ContextFile(name, mime_type, str(blob.get("data") or "")))
            pieces.append(f"[attached: {name}]")
        elif isinstance(part.get("text"), str) and not part.get("thought"):
            pieces.append(part["text"])
    return "\n".join(pieces)


def _extension(mime_type: str) -> str:
    subtype = mime_type.partition("/")[2].partition(";")[0].partition("+")[0].strip().lower()
    usual = {"jpeg": "jpg", "plain": "txt", "markdown": "md"}.get(subtype, subtype)
    return usual if usual.isalnum() and usual.isascii() else "bin"


# -- answers to native frames ----------------------------------------------------------------------------------------


class AssistFrames:
    """Translates one answer, document by document. A document is a StreamAssistResponse, or a wrapper around one."""

    def __init__(self, *, thoughts: bool = False) -> None:
        self._thoughts = thoughts
        self._begun = False

    def __call__(self, document: JsonObject) -> JsonObject | None:
        """The native frame; None for a document that adds nothing. An error passes unchanged. Raises UpstreamFailure for an
        answer that the assistant gave up."""
        if "error" in document:
            return document
        answer = mapping(mapping(document.get("streamAssistResponse", document)).get("answer"))
        parts = [part for reply in dicts(answer.get("replies")) if (part := self._part(reply)) is not None]
        state = answer.get("state")
        if state in _STATES_OF_FAILURE:
            raise UpstreamFailure("server", f"The assistant of Gemini Enterprise ended with {state}.", status=200)
        self._begun = self._begun or bool(parts)
        if state == "SKIPPED":
            return self._skipped(answer, parts)
        if state != "SUCCEEDED" and not parts:
            return None
        return _frame(parts, "STOP" if state == "SUCCEEDED" else None)

    def _part(self, reply: Mapping[str, Any]) -> JsonObject | None:
        content = mapping(mapping(reply.get("groundedContent")).get("content"))
        thought = content.get("thought") is True
        if thought and not self._thoughts:
            return None
        if isinstance(content.get("text"), str) and content["text"]:
            return {"text": content["text"], "thought": True} if thought else {"text": content["text"]}
        blob, file = mapping(content.get("inlineData")), mapping(content.get("file"))
        if isinstance(blob.get("data"), str):
            return {"inlineData": {"mimeType": str(blob.get("mimeType") or ""), "data": blob["data"]}}
        if isinstance(file.get("fileId"), str):
            return {"fileData": {"mimeType": str(file.get("mimeType") or ""), "fileUri": file["fileId"]}}
        for name in ("executableCode", "codeExecutionResult"):
            if found := mapping(content.get(name)):
                return {name: dict(found)}
        return None

    def _skipped(self, answer: Mapping[str, Any], parts: list[JsonObject]) -> JsonObject:
        """A blocked prompt, or, after a part of the answer, a candidate that was stopped."""
        reasons = [str(reason)[:MAX_SHOWN_CHARS] for reason in _list(answer.get("assistSkippedReasons"))[:MAX_FILES]]
        reason = next((_BLOCKED[one] for one in reasons if one in _BLOCKED), "OTHER")
        why = f"The assistant of Gemini Enterprise skipped the request ({', '.join(reasons) or 'without a reason'})."
        if self._begun:
            return _frame(parts, reason, finishMessage=why)
        return {"promptFeedback": {"blockReason": reason, "blockReasonMessage": why}}


def _frame(parts: list[JsonObject], finish_reason: str | None, **more: str) -> JsonObject:
    content: JsonObject = {"role": "model"}
    if parts:
        content["parts"] = parts
    candidate: JsonObject = {"content": content, "index": 0, **more}
    if finish_reason is not None:
        candidate["finishReason"] = finish_reason
    return {"candidates": [candidate]}


def answer_files(frame: JsonObject) -> list[JsonObject]:
    """The parts of a translated frame that name a file of the session: the caller replaces their content in place."""
    return [part for part in wire.parts(frame) if "fileData" in part]


def _all_contents(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [mapping(message.get("systemInstruction")), *dicts(message.get("contents"))]


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def dicts(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list. One object counts as a list of it, as in Gemini's JSON."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, Mapping)]


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
