"""What a process may hold and work on at once, for whomever. It changes when a resource of the process gets another bound."""
