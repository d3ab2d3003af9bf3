"""OpenAI's request and response bodies as Gemini's, and back. It changes when either API does."""
