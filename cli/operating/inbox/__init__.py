"""Commands about guests that nobody ordered."""
