"""Many prompts: items, results, and the workers between them. It changes with what an item may have."""
