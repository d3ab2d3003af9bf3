"""The messages of a chat completion: reads them, refuses what is wrong, and describes them. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from shared.http.bodies import Absent, Body, OrText, Rule, wrong
from shared.media.base64_text import decode
from shared.openai_format.parts import Part

_CALLS_ONLY = Rule("is not supported; send tool_calls, and messages of the role tool")
_NOT_SPOKEN = Rule("must be null: this server makes no speech, so no message can refer to one")


class CalledFunction(Body):
    name: str = Field(min_length=1, description="The function that was called.")
    arguments: str = Field(description="A JSON object, as text.", examples=['{"city": "Paris"}'])
    provider_specific_fields: Any = Field(None, description="Ignored.")
    parsed_arguments: Any = Field(None, description="Ignored; OpenAI's SDK adds it to the calls that it parsed.")


class GoogleSigned(Body):
    model_config = ConfigDict(extra="ignore")

    thought_signature: str | None = None


class ExtraContent(Body):
    """Where Google's own OpenAI endpoint puts a call's thought signature."""

    model_config = ConfigDict(extra="ignore")

    google: GoogleSigned | None = None


class ToolCall(Body):
    id: str = Field(min_length=1, description="The id of the call, as it was answered.")
    type: Annotated[Literal["function"], Rule("must be function; other kinds of tools are not supported")] = Field(
        "function", description="Always function."
    )
    function: CalledFunction = Field(description="What was called.")
    extra_content: ExtraContent | None = Field(None, description="The call's thought signature, if the client kept it.")
    custom: Annotated[Absent, Rule("is not supported; send function")] = None
    index: Any = Field(None, description="Ignored; it is part of a stream's calls.")
    provider_specific_fields: Any = Field(None, description="Ignored.")

    @property
    def signature(self) -> str | None:
        """The thought signature that the client kept; None for one that cannot be one, because it is not base64."""
        google = self.extra_content.google if self.extra_content is not None else None
        kept = google.thought_signature if google is not None else None
        return kept if kept and _is_base64(kept) else None


def _is_base64(text: str) -> bool:
    try:
        return len(decode(text)) > 0
    except ValueError:
        return False


class Message(Body):
    """One message. What other clients and servers add to an assistant's message is ignored."""

    role: Annotated[
        Literal["system", "developer", "user", "assistant", "tool"],
        Rule("must be one of system, developer, user, assistant, tool"),
    ] = Field(description="Who speaks.")
    content: Annotated[str | list[Part] | None, OrText("a list of parts")] = Field(
        None, description="A text, or a list of parts."
    )
    tool_calls: list[ToolCall] | None = Field(None, fail_fast=True, description="Of an assistant message.")
    tool_call_id: str | None = Field(None, min_length=1, description="The call that a tool message answers.")
    refusal: str | None = Field(None, description="Of an assistant message; sent as its text where it has no content.")
    name: Any = Field(None, description="Ignored: Gemini's turns have no name.")
    function_call: Annotated[Absent, _CALLS_ONLY] = None
    audio: Annotated[Absent, _NOT_SPOKEN] = None
    annotations: Any = Field(None, description="Ignored.")
    images: Any = Field(None, description="Ignored: the links are in the content.")
    parsed: Any = Field(None, description="Ignored; OpenAI's SDK adds it to answers that it parsed.")
    reasoning: Any = Field(None, description="Ignored.")
    reasoning_content: Any = Field(None, description="Ignored: Gemini does not take its thoughts back.")
    reasoning_details: Any = Field(None, description="Ignored.")
    thinking_blocks: Any = Field(None, description="Ignored.")
    provider_specific_fields: Any = Field(None, description="Ignored.")
    extra_content: Any = Field(None, description="Ignored.")
    cache_control: Any = Field(None, description="Ignored: Gemini caches prompts by itself.")

    @model_validator(mode="after")
    def _of_its_role(self) -> Message:
        role = self.role
        if role == "tool":
            if self.tool_call_id is None:
                raise wrong("tool_call_id", "is required in a tool message")
        elif role != "assistant":
            if not self.content and self.content != "":
                raise wrong("content", f"is required in a {role} message")
            if role != "user" and not isinstance(self.content, str) and any(p.written is None for p in self.content):
                raise wrong("content", f"must be text in a {role} message")
        if self.tool_calls and role != "assistant":
            raise wrong("tool_calls", f"is only for assistant messages, not for {role}")
        return self
