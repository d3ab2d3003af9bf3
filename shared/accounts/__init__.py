"""The pool of accounts: which keys may serve, and which are out."""
