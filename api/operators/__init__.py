"""The API for operators: their keys, `/api/ops`, and its models."""
