"""What every function shares: the HTTP edge, the engine and the use cases. README.md has the picture."""
