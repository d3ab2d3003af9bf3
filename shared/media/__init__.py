"""Stored images and the images that callers send, over one object store. It changes when a place or a format is added."""
