"""The story of a request to Gemini: admitted, sent, retried, settled. It changes when the rules of that story do."""
