"""All upstream I/O: the wire to Gemini."""
