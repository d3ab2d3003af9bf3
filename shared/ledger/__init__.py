"""The global ledger of limits, pure; README.md has the invariants. It changes when what may be dispatched does."""
