"""Which keys may serve a request. It changes when an account gets a new kind of credential or a new state."""
