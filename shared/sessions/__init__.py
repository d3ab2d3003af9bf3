"""Conversations that are stored between requests, with their uploads. It changes when a session's contract does."""
