"""What every function shares: authentication, the global ledger, admission, and the way to Gemini."""
