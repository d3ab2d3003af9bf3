"""The queue of one process: requests wait for permits that the ledger reserved. It changes when waiting does."""
