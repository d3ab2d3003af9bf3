"""Where images are kept: one class over an object store (a folder, Google's, an S3-compatible one), one contract suite."""
