"""Admission: a request waits here for a permit. It changes when one process queues requests or spends permits in another way."""
