"""The client's side of the API: tokens, and a user's own records."""
