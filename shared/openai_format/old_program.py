"""`prompts` in place of `messages`: the body that clients of the program before this one send. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.generation import JsonObject
from shared.http.bodies import Body, Rule, wrong
from shared.openai_format.parts import native_data


class PromptFile(Body):
    data: str = Field(
        min_length=1, description="A data URL, or base64.", examples=["data:image/png;base64,iVBORw0KGgo="]
    )
    type: str | None = Field(None, description="Not needed: the type is read from the data.", examples=["image"])


class Prompt(Body):
    """A turn: a text, files, or both."""

    role: Annotated[
        Literal["user", "assistant", "model", "system"], Rule("must be one of user, assistant, model, system")
    ] = "user"
    text: str | None = None
    files: list[PromptFile] | None = Field(None, fail_fast=True)

    @model_validator(mode="after")
    def _has_content(self) -> Prompt:
        if not self.text and not self.files:
            raise wrong("text", "is required in a prompt without files")
        if self.files and self.role == "system":
            raise wrong("files", "must be in a prompt of the role user")
        return self


def old_conversation(prompts: Sequence[Prompt]) -> tuple[list[JsonObject], list[JsonObject]]:
    """The parts of the systemInstruction, and the contents. Raises BadRequest that names the field."""
    instruction: list[JsonObject] = []
    contents: list[JsonObject] = []
    for at, prompt in enumerate(prompts):
        parts: list[JsonObject] = [{"text": prompt.text}] if prompt.text else []
        parts += [
            native_data(file.data, f"prompts[{at}].files[{number}].data")
            for number, file in enumerate(prompt.files or ())
        ]
        if prompt.role == "system" and not contents:
            instruction += parts
        else:
            role = "model" if prompt.role in ("assistant", "model") else "user"
            contents.append({"role": role, "parts": parts})
    return ([], [{"role": "user", "parts": instruction}]) if not contents else (instruction, contents)
