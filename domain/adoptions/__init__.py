"""Adoptions: guests that nobody ordered, which order may be theirs, and what an operator decided. Pure."""
