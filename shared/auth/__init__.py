"""Who calls, and how often. It changes when there is a new kind of credential or rate."""
