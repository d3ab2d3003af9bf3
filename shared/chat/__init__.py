"""The body of /chat as a native request, and Gemini's response as its answer. It changes when either body does."""
