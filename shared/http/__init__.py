"""The HTTP edge: how a request is received, read and answered. It changes when the protocol or our conventions over it change."""
