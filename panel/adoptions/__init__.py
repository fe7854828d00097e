"""Guests that nobody ordered: the likely order of each, and the operators' adoptions as they are stored."""
