"""What differs on Vertex AI: its paths, the names that it does not know, and its rejections."""

from __future__ import annotations

import re
from typing import Any

from .errors import GoogleError, invalid
from .transcode import read_message

PATH = re.compile(r"/(v1|v1beta1)/projects/([^/]+)/locations/([^/]+)/publishers/google/models/([^/:]+):(\w+)")
_UNKNOWN = frozenset(
    {
        ("GenerateContentRequest", "store"),
        ("GenerationConfig", "enableEnhancedCivicAnswers"),
        ("Part", "partMetadata"),
        ("Part", "toolCall"),
        ("Part", "toolResponse"),
        ("Tool", "fileSearch"),
        ("ToolConfig", "includeServerSideToolInvocations"),
    }
)
PROJECTS = "vertex/"
TRAFFIC_TYPE = "ON_DEMAND"


def project_of(project: str) -> str:
    """The name of a Google project's quotas on Vertex, which are not those of the Gemini API."""
    return f"{PROJECTS}{project}"


def rpc(version: str, verb: str) -> str:
    return f"google.cloud.aiplatform.{version}.PredictionService.{verb[:1].upper()}{verb[1:]}"


def read(body: bytes, message: str, version: str) -> dict[str, Any]:
    """The normalised message. Raises GoogleError 400."""
    read = read_message(body, message, version, unknown=_UNKNOWN)
    if any(not content.get("role") for content in read.get("contents", [])):
        raise invalid("Please use a valid role: user, model.")
    return read


def model_not_found(project: str, location: str, model_id: str) -> GoogleError:
    return GoogleError(
        404,
        f"Publisher Model `projects/{project}/locations/{location}/publishers/google/models/{model_id}` was not found or "
        "your project does not have access to it. Please ensure you are using a valid model version. For more information, "
        "see: https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions",
    )


def exhausted(reason: str) -> GoogleError:
    """Dynamic shared quota: no quota is named, and no delay."""
    return GoogleError(
        429,
        "Resource exhausted. Please try again later. Please refer to "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details.",
        reason=reason,
    )
