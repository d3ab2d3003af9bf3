"""The OpenAPI 3.1 document of all endpoints. It changes when what it describes of an endpoint does."""
