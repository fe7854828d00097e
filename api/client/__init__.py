"""The API for clients: tokens, and a user's own records."""
