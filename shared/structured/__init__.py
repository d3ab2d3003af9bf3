"""Structured output: an answer that is checked against a JSON Schema. It changes when what such an answer promises does."""
