"""What a request leaves behind: one log record, and spans. It changes when what an operator can see of one request does."""
