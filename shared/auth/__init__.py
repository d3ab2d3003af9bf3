"""Who calls, and how often a caller may. It changes when there is a new kind of credential or of rate."""
