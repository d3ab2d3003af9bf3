"""Answers that conform to a JSON Schema. It changes when what such an answer promises does."""
