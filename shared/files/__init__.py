"""Files that callers store: bytes in the object store, what is known about them in the store. It changes when either does."""
