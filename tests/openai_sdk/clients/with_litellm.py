"""LiteLLM with the gateway as its upstream: a chat, a stream, tools. Prints one JSON object."""

import json
import sys

import litellm

MODEL = "openai/gemini-3.8-flash"
HELLO = [{"role": "user", "content": "Hello, lighthouse"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]

messages = [{"role": "user", "content": "Use get_weather"}]
call = litellm.completion(MODEL, messages, tools=TOOLS).choices[0].message
messages += [call.model_dump()]
messages += [{"role": "tool", "tool_call_id": one.id, "content": "It is fine."} for one in call.tool_calls]
shown = {
    "whole": litellm.completion(MODEL, HELLO).choices[0].message.content,
    "streamed": "".join(
        chunk.choices[0].delta.content or "" for chunk in litellm.completion(MODEL, HELLO, stream=True)
    ),
    "asked": [json.loads(one.function.arguments)["city"] for one in call.tool_calls],
    "after": litellm.completion(MODEL, messages, tools=TOOLS).choices[0].message.content,
}
json.dump(shown, sys.stdout)
