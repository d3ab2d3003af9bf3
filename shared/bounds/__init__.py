"""What all requests of one process may hold and work on at once. It changes when a resource gets another bound."""
