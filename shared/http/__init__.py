"""The HTTP edge: receives, reads and answers requests. It changes when the protocol or our conventions over it do."""
