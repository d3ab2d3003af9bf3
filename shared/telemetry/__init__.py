"""What is recorded of a request: one log record, and spans. It changes when an operator can see more of a request."""
