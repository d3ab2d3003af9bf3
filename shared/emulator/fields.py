"""The names and types of a request's fields, as Google's protobuf messages have them, by their camelCase JSON names.

A type is a scalar (string, int, number, bool, bytes), `json` (anything), `struct` (an object with any names),
`Enum:<names>`, the name of a message here, `[type]` for a repeated field or `{type}` for a map.
"""

from __future__ import annotations

_SCHEMA_TYPES = "TYPE_UNSPECIFIED STRING NUMBER INTEGER BOOLEAN ARRAY OBJECT NULL"
_LEVELS = "THINKING_LEVEL_UNSPECIFIED MINIMAL LOW MEDIUM HIGH XHIGH"
_RESOLUTIONS = (
    "MEDIA_RESOLUTION_UNSPECIFIED MEDIA_RESOLUTION_LOW MEDIA_RESOLUTION_MEDIUM MEDIA_RESOLUTION_HIGH "
    "MEDIA_RESOLUTION_ULTRA_HIGH"
)
_CATEGORIES = (
    "HARM_CATEGORY_UNSPECIFIED HARM_CATEGORY_HARASSMENT HARM_CATEGORY_HATE_SPEECH HARM_CATEGORY_SEXUALLY_EXPLICIT "
    "HARM_CATEGORY_DANGEROUS_CONTENT HARM_CATEGORY_CIVIC_INTEGRITY"
)
_THRESHOLDS = (
    "HARM_BLOCK_THRESHOLD_UNSPECIFIED BLOCK_LOW_AND_ABOVE BLOCK_MEDIUM_AND_ABOVE BLOCK_ONLY_HIGH BLOCK_NONE OFF"
)

MESSAGES: dict[str, dict[str, str]] = {
    "GenerateContentRequest": {
        "model": "string",
        "contents": "[Content]",
        "systemInstruction": "Content",
        "tools": "[Tool]",
        "toolConfig": "ToolConfig",
        "safetySettings": "[SafetySetting]",
        "generationConfig": "GenerationConfig",
        "cachedContent": "string",
        "serviceTier": "Enum:SERVICE_TIER_UNSPECIFIED STANDARD FLEX PRIORITY",
        "store": "bool",
        "continuationToken": "bytes",
        "labels": "{string}",
    },
    "CountTokensRequest": {
        "model": "string",
        "contents": "[Content]",
        "generateContentRequest": "GenerateContentRequest",
    },
    "VertexCountTokensRequest": {
        "model": "string",
        "contents": "[Content]",
        "systemInstruction": "Content",
        "tools": "[Tool]",
        "generationConfig": "GenerationConfig",
    },
    "EmbedContentRequest": {
        "model": "string",
        "content": "Content",
        "taskType": "Enum:TASK_TYPE_UNSPECIFIED RETRIEVAL_QUERY RETRIEVAL_DOCUMENT SEMANTIC_SIMILARITY CLASSIFICATION "
        "CLUSTERING QUESTION_ANSWERING FACT_VERIFICATION CODE_RETRIEVAL_QUERY",
        "title": "string",
        "outputDimensionality": "int",
    },
    "BatchEmbedContentsRequest": {"requests": "[EmbedContentRequest]"},
    "Content": {"role": "string", "parts": "[Part]"},
    "Part": {
        "text": "string",
        "inlineData": "Blob",
        "fileData": "FileData",
        "functionCall": "FunctionCall",
        "functionResponse": "FunctionResponse",
        "executableCode": "ExecutableCode",
        "codeExecutionResult": "CodeExecutionResult",
        "toolCall": "struct",
        "toolResponse": "struct",
        "thought": "bool",
        "thoughtSignature": "bytes",
        "videoMetadata": "struct",
        "mediaResolution": "struct",
        "mediaProcessing": "struct",
        "partMetadata": "struct",
        "audioTranscription": "struct",
        "speechMetadata": "struct",
        "documentMetadata": "struct",
        "spreadsheetMetadata": "struct",
        "audioMetadata": "struct",
    },
    "Blob": {"mimeType": "string", "data": "bytes", "displayName": "string"},
    "FileData": {"mimeType": "string", "fileUri": "string", "displayName": "string"},
    "FunctionCall": {
        "id": "string",
        "name": "string",
        "args": "struct",
        "partialArgs": "json",
        "willContinue": "bool",
    },
    "FunctionResponse": {
        "id": "string",
        "name": "string",
        "response": "struct",
        "parts": "[struct]",
        "willContinue": "bool",
        "scheduling": "string",
    },
    "ExecutableCode": {"id": "string", "language": "string", "code": "string"},
    "CodeExecutionResult": {"id": "string", "outcome": "string", "output": "string"},
    "Tool": {
        "functionDeclarations": "[FunctionDeclaration]",
        "googleSearch": "struct",
        "googleSearchRetrieval": "struct",
        "googleMaps": "struct",
        "urlContext": "struct",
        "codeExecution": "struct",
        "fileSearch": "struct",
        "computerUse": "struct",
        "mcpServers": "[struct]",
    },
    "FunctionDeclaration": {
        "name": "string",
        "description": "string",
        "parameters": "Schema",
        "parametersJsonSchema": "json",
        "response": "Schema",
        "responseJsonSchema": "json",
        "behavior": "string",
    },
    "ToolConfig": {
        "functionCallingConfig": "FunctionCallingConfig",
        "retrievalConfig": "struct",
        "includeServerSideToolInvocations": "bool",
    },
    "FunctionCallingConfig": {
        "mode": "Enum:MODE_UNSPECIFIED AUTO ANY NONE VALIDATED",
        "allowedFunctionNames": "[string]",
        "streamFunctionCallArguments": "bool",
    },
    "SafetySetting": {"category": f"Enum:{_CATEGORIES}", "threshold": f"Enum:{_THRESHOLDS}"},
    "GenerationConfig": {
        "temperature": "number",
        "topP": "number",
        "topK": "int",
        "candidateCount": "int",
        "maxOutputTokens": "int",
        "stopSequences": "[string]",
        "presencePenalty": "number",
        "frequencyPenalty": "number",
        "seed": "int",
        "responseLogprobs": "bool",
        "logprobs": "int",
        "responseMimeType": "string",
        "responseSchema": "Schema",
        "responseJsonSchema": "json",
        "responseModalities": "[Enum:MODALITY_UNSPECIFIED TEXT IMAGE AUDIO VIDEO]",
        "responseFormat": "json",
        "thinkingConfig": "ThinkingConfig",
        "imageConfig": "struct",
        "speechConfig": "struct",
        "mediaResolution": f"Enum:{_RESOLUTIONS}",
        "enableEnhancedCivicAnswers": "bool",
        "audioTranscriptionConfig": "struct",
        "translationConfig": "struct",
    },
    "ThinkingConfig": {"includeThoughts": "bool", "thinkingBudget": "int", "thinkingLevel": f"Enum:{_LEVELS}"},
    "Schema": {
        "type": f"Enum:{_SCHEMA_TYPES}",
        "format": "string",
        "title": "string",
        "description": "string",
        "nullable": "bool",
        "enum": "[string]",
        "items": "Schema",
        "minItems": "int",
        "maxItems": "int",
        "properties": "{Schema}",
        "propertyOrdering": "[string]",
        "required": "[string]",
        "minProperties": "int",
        "maxProperties": "int",
        "minLength": "int",
        "maxLength": "int",
        "pattern": "string",
        "minimum": "number",
        "maximum": "number",
        "anyOf": "[Schema]",
        "example": "json",
        "default": "json",
    },
}
