"""Images: made by Gemini, read from callers, stored and served. It changes when what can be asked of an image does."""
