"""The operators' side of the API: their keys, `/api/ops`, and its models."""
