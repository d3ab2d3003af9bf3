"""The specification of all endpoints (OpenAPI 3.1). It changes when an endpoint needs another kind of description."""
