"""The environment as frozen values. It changes when an operator can decide something new."""
