"""How a record is made, and what callers, clients and operators see of it."""
