"""The stored configuration, which all processes share. It changes when an operator may set something else at run time."""
