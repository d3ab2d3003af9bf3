"""The stores of all state: one port (bytes under keys), three adapters, one contract suite. It changes with a database."""
