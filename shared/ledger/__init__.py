"""The global ledger, pure: no I/O library is imported here. README.md has the invariants."""
