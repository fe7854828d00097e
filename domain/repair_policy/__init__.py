"""What may be repaired without asking, and how much of it at once. Pure."""
