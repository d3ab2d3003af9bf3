"""Where state is kept: one generic port (bytes under keys), three adapters, one contract suite."""
