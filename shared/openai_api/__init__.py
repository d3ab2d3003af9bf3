"""The handlers of OpenAI's API: one module for each group of paths. It changes when the API does."""
