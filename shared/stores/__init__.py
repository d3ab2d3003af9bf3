"""Where state is kept: bytes under keys, three adapters. It changes when a store is added or its port does."""
