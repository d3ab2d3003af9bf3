"""The specification of all endpoints (OpenAPI 3.1). It changes when what it describes of an endpoint does."""
