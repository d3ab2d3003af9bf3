"""Storage of images in a folder, a Google bucket or an S3-compatible one. It changes with what an image or a store is."""
