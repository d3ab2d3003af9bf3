"""HTTP: receives a request, reads it and sends the response. It changes when the protocol or our conventions for it change."""
