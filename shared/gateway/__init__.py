"""One request to Gemini from admission to settlement, with its retries. It changes when the rules of a retry do."""
