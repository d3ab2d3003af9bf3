"""The command `gemini-parallel`."""
