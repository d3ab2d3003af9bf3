"""The library `gemini_parallel`: many prompts on several Gemini keys, within their limits. It changes with what users call."""
