"""Chat: a request's body made native, and Gemini's answer made ours. It changes when the body of /chat does."""
