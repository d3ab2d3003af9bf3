"""The body of POST /v1/chat/completions: reads it, refuses what is wrong, and describes it. Pure.

Each parameter of OpenAI's is honoured, refused by name, or documented as ignored; README.md has the table, made from the fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from shared.http.bodies import Absent, Between, Body, Rule, wrong
from shared.openai_format.generation_settings import MAX_ANSWERS, SettingsBody
from shared.openai_format.messages import Message
from shared.openai_format.old_program import Prompt
from shared.openai_format.tools import MAX_TOOLS, Choice, Tool

MAX_MESSAGES = 50_000
"""As many as POST /chat takes turns."""
_NULL = {"type": "null"}
_NOT_KEPT = Rule("must be false: this server keeps no completions; remove it")
_NO_LOGPROBS = Rule("must be false: Gemini's models give no log probabilities; remove it")
_NO_TOP_LOGPROBS = Rule("is not supported: Gemini's models give no log probabilities; remove it")
_TIER = Rule(
    "must be auto, default, priority, fast or scale, all of which are served as default; flex has rate limits of its own, "
    "which this server does not know"
)
_MESSAGES_OR_PROMPTS: dict[str, Any] = {
    "oneOf": [
        {"required": ["messages"], "properties": {"messages": {"type": "array"}, "prompts": _NULL}},
        {"required": ["prompts"], "properties": {"prompts": {"type": "array"}, "messages": _NULL}},
    ],
    "examples": [
        {"model": "gemini-3.8-flash", "messages": [{"role": "user", "content": "Say hello in three languages."}]},
        {
            "messages": [
                {"role": "system", "content": "Answer briefly."},
                {"role": "user", "content": "Why is the sky blue?"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ],
}


class StreamOptions(Body):
    include_usage: bool | None = Field(None, description="Whether the last event has the usage.")
    include_obfuscation: Any = Field(None, description="Ignored: no padding is sent.")


class WebSearchOptions(Body):
    """The model may search the web with Google Search."""

    search_context_size: Any = Field(None, description="Ignored: Gemini decides.")
    user_location: Any = Field(None, description="Ignored: Google Search takes no location.")


class ChatBody(SettingsBody):
    """A chat completion's request: `messages`, or `prompts` as the program before this one took them."""

    model_config = ConfigDict(json_schema_extra=_MESSAGES_OR_PROMPTS)

    messages: list[Message] | None = Field(
        None, min_length=1, max_length=MAX_MESSAGES, fail_fast=True, description="The conversation."
    )
    prompts: list[Prompt] | None = Field(
        None, min_length=1, max_length=MAX_MESSAGES, fail_fast=True, description="In place of messages."
    )
    n: Annotated[int, Between(1, MAX_ANSWERS)] | None = Field(
        None, description="How many answers. Each is a request of its own to Gemini, and counts in its limits."
    )
    stream: bool | None = Field(None, description="Return the answer as server-sent events while it is generated.")
    stream_options: StreamOptions | None = Field(None, description="Of a stream.")
    tools: list[Tool] | None = Field(
        None, max_length=MAX_TOOLS, fail_fast=True, description="Functions that the model may call."
    )
    tool_choice: Choice = Field(None, description="none, auto, required, a function, or allowed_tools.")
    parallel_tool_calls: bool | None = Field(None, description="false: the answer has at most one call.")
    web_search_options: WebSearchOptions | None = Field(None, description="The model may search with Google.")
    safe_mode: bool | None = Field(
        None, description="true: Gemini blocks what is harmful with a low probability already."
    )
    user: str | None = Field(
        None, description="The caller's name: with the admin key, callers share the limits fairly."
    )
    service_tier: Annotated[Literal["auto", "default", "priority", "fast", "scale"] | None, _TIER] = Field(
        None, description="Always served as `default`. `flex` is refused."
    )
    store: Annotated[Literal[False] | None, _NOT_KEPT] = Field(
        None, description="Refused if true: this server keeps no completions."
    )
    logprobs: Annotated[Literal[False] | None, _NO_LOGPROBS] = Field(
        None, description="Refused if true: Gemini's models give no log probabilities."
    )
    logit_bias: Annotated[dict[str, Any] | None, Rule("must be empty: Gemini has no such setting; remove it")] = Field(
        None, max_length=0, description="Refused unless it is empty: Gemini has no such setting."
    )
    # -- refused by name
    top_logprobs: Annotated[Absent, _NO_TOP_LOGPROBS] = None
    audio: Annotated[Absent, Rule("is not supported: this server makes no speech; remove it")] = None
    moderation: Annotated[Absent, Rule("is not supported; remove it, and send safe_mode to block harmful content")] = (
        None
    )
    functions: Annotated[Absent, Rule("is not supported, since OpenAI replaced it; send tools")] = None
    function_call: Annotated[Absent, Rule("is not supported, since OpenAI replaced it; send tool_choice")] = None
    # -- ignored
    metadata: Any = Field(None, description="Ignored: it describes what OpenAI stores.")
    prediction: Any = Field(None, description="Ignored: it makes an answer faster, and does not change it.")
    prompt_cache_key: Any = Field(None, description="Ignored: Gemini caches prompts by itself.")
    prompt_cache_options: Any = Field(None, description="Ignored: Gemini caches prompts by itself.")
    prompt_cache_retention: Any = Field(None, description="Ignored: Gemini caches prompts by itself.")
    safety_identifier: Any = Field(None, description="Ignored: Google is not told who asks.")
    verbosity: Any = Field(None, description="Ignored: Gemini has no such setting; ask for a length in a message.")
    chat_id: Any = Field(None, description="Ignored: Open WebUI sends it.")
    session_id: Any = Field(None, description="Ignored: Open WebUI sends it.")
    min_p: Any = Field(None, description="Ignored: Open WebUI sends it for other servers.")
    num_ctx: Any = Field(None, description="Ignored: Open WebUI sends it for other servers.")
    num_keep: Any = Field(None, description="Ignored: Open WebUI sends it for other servers.")
    repeat_penalty: Any = Field(None, description="Ignored: Open WebUI sends it for other servers.")
    repetition_penalty: Any = Field(None, description="Ignored: clients of vLLM send it.")

    @model_validator(mode="after")
    def _messages_or_prompts(self) -> ChatBody:
        if self.messages is None and self.prompts is None:
            raise wrong("messages", "is required; send the conversation as a list of messages")
        if self.messages is not None and self.prompts is not None:
            raise wrong("messages", "and prompts are mutually exclusive; send messages")
        return self
