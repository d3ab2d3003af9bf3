"""Bounds on the memory and work of one process. It changes when a resource of the process gets another bound."""
