"""The wire to Gemini: requests, responses, errors, models. It changes when Google's API does."""
