"""What langchain-openai's users do: a chat, a stream, tools to the end, an object, embeddings. Prints one JSON object."""

import json
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return "It is fine."


class Answer(BaseModel):
    text: str


model = ChatOpenAI(model="gemini-3.8-flash")
streamed = "".join(str(chunk.content) for chunk in model.stream("Hello, lighthouse"))
with_tools = model.bind_tools([get_weather])
messages = [HumanMessage("Use get_weather")]
call = with_tools.invoke(messages)
messages += [call, *(ToolMessage(get_weather.invoke(one["args"]), tool_call_id=one["id"]) for one in call.tool_calls)]
shown = {
    "whole": model.invoke("Hello, lighthouse").content,
    "streamed": streamed,
    "asked": [one["args"]["city"] for one in call.tool_calls],
    "after": with_tools.invoke(messages).content,
    "vectors": OpenAIEmbeddings(model="gemini-embedding-2", check_embedding_ctx_length=False).embed_documents(
        ["a", "b"]
    ),
    "parsed": model.with_structured_output(Answer).invoke("Hello").text,
}
json.dump(shown, sys.stdout)
